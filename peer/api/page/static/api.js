// Asking the daemon: every request with this page's key, every refusal as {code, message, fix}. No DOM here.

const KEY = "dispatch-page-key";

/** A request that was refused, or could not be made (code 0). */
export class Refused extends Error {
  constructor(code, message, fix = "") {
    super(message);
    this.code = code;
    this.fix = fix;
  }
}

/** The half of the session that the script holds; the other half is a cookie that it cannot read. */
export const key = {
  get: () => localStorage.getItem(KEY) ?? "",
  set: (value) => localStorage.setItem(KEY, value),
  drop: () => localStorage.removeItem(KEY),
};

/** What the page does when it is no longer signed in; set by app.js. */
export const session = { ended: () => {} };

/** Make a request; return the response. Raises Refused. */
export async function request(method, path, { body, headers = {}, signal, raw = false } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: {
        "x-dispatch-page": key.get(),
        ...(body === undefined || raw ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      body: body === undefined || raw ? body : JSON.stringify(body),
      credentials: "same-origin",
      redirect: "error",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the daemon on this machine does not answer", "`dispatch-daemon` starts it");
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // Not ours: the code alone must do.
  }
  // A 401 may also mean the sign-in at a broker, which leaves this page signed in.
  if (response.status === 401 && response.headers.has("x-dispatch-signed-out")) session.ended();
  throw new Refused(response.status, told.message ?? `the daemon answered ${response.status}`, told.fix ?? "");
}

const ask = async (...given) => (await request(...given)).json();

export const get = (path, options) => ask("GET", path, options);
export const post = (path, body = {}, options = {}) => ask("POST", path, { ...options, body });
export const patch = (path, body) => ask("PATCH", path, { body });
export const remove = (path, body) => ask("DELETE", path, { body });
export const seg = encodeURIComponent;

/** Exchange a one-time code for a session. */
export async function signIn(code) {
  key.set((await post("/v1/page/sign-in", { code })).key);
}

/** Save a file of a dispatch under its own name; it is never opened here. */
export async function download(dispatchId, role, position, name) {
  await save(await request("GET", `/v1/dispatches/${seg(dispatchId)}/files/${role}/${position}`), name);
}

/** Save what a response holds under a name. */
export async function save(response, name) {
  const url = URL.createObjectURL(new Blob([await response.arrayBuffer()], { type: "application/octet-stream" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
