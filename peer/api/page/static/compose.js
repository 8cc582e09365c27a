// Writing a dispatch: to whom, what, with which files (dropped or picked), for how long. Uploads wait at the daemon.

import { Refused, get, post, remove, request, seg } from "./api.js";
import { busy, button, field, fill, h, problem, toast } from "./dom.js";
import { askedWords } from "./scope.js";
import { state } from "./state.js";
import { bytes, cut, line } from "./text.js";

const LIFETIMES = [[600, "10 minutes"], [3600, "an hour"], [14400, "4 hours"], [43200, "12 hours"], [86400, "a day"]];

export function compose({ go }) {
  const limits = state.limits;
  const files = [];
  const list = h("ul.files", { "aria-label": "Files to send" });
  const trouble = h("div");
  const filesTrouble = h("div");
  const to = h("select", { id: "to", required: true });
  const about = h("p.hint", { id: "to-hint", "aria-live": "polite" });
  to.setAttribute("aria-describedby", "to-hint");
  const task = h("textarea.task", { id: "task", rows: "8", required: true, maxlength: String(limits.task) });
  const texts = state.texts.map(({ name, heading, limit, long }) => {
    const shape = { id: name, maxlength: String(limit), autocomplete: "off" };
    return { name, heading, long, control: long ? h("textarea", { ...shape, rows: limit > 5000 ? "4" : "2" }) : h("input", shape) };
  });
  const links = h("textarea", { id: "links", rows: "2", spellcheck: "false", placeholder: "https://…" });
  const lifetime = h("select", { id: "lifetime" }, LIFETIMES.map(([seconds, text]) => h("option", { value: String(seconds) }, text)));
  lifetime.value = String(state.expires);
  let people = new Map();
  let before = new URLSearchParams(location.search).get("again") ?? ""; // a dispatch that is sent once more

  const picker = h("input.picker", { type: "file", id: "files", multiple: true, on: { change: () => {
    take([...picker.files]);
    picker.value = "";
  } } });
  const drop = h("div.drop", { on: {
    dragover: (event) => {
      event.preventDefault();
      drop.classList.add("over");
    },
    dragleave: () => drop.classList.remove("over"),
    drop: (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      take([...event.dataTransfer.files]);
    },
  } }, h("label", { for: "files" }, "Files"), h("p.hint", {}, `Drop files here, or choose them: at most ${limits.files}, ${bytes(limits.file_bytes)} each.`), picker, list, filesTrouble);

  async function take(picked) {
    fill(filesTrouble);
    for (const file of picked) {
      if (files.length >= limits.files) {
        fill(filesTrouble, problem(new Refused(413, `at most ${limits.files} files go with a dispatch`, "pack some of them into one archive")));
        return;
      }
      if (file.size > limits.file_bytes) {
        fill(filesTrouble, problem(new Refused(413, `${file.name} has ${bytes(file.size)}; at most ${bytes(limits.file_bytes)} can go`, "share it by link")));
        continue;
      }
      const entry = { name: file.name, size: file.size, upload: "" };
      files.push(entry);
      draw();
      try {
        const response = await request("POST", "/v1/page/uploads", {
          body: file, raw: true,
          headers: { "content-type": "application/octet-stream", "x-file-name": encodeURIComponent(file.name) },
        });
        entry.upload = (await response.json()).upload;
      } catch (error) {
        files.splice(files.indexOf(entry), 1);
        fill(filesTrouble, problem(error));
      }
      draw();
    }
  }

  function draw() {
    fill(list, files.map((entry) => h("li", {},
      h("span.name", {}, line(entry.name)), h("span.hint", {}, entry.upload ? bytes(entry.size) : "reading…"),
      entry.upload ? h("button", { type: "button", "aria-label": `Remove ${line(entry.name)}`, on: { click: () => {
        files.splice(files.indexOf(entry), 1);
        remove("/v1/page/uploads", { uploads: [entry.upload] }).catch(() => {});
        draw();
      } } }, "Remove") : null)));
  }

  function describe() {
    const row = people.get(to.value);
    fill(about, row
      ? `${row.peer_online ? "Online now" : "Offline now: the task waits here until their machine is reachable"}. Their agent may use ${row.scopes.tools.join(", ")}; ${askedWords(row.scopes.approval, "they")}.${row.verified ? "" : " Their key is not verified: whoever runs the broker or reads their mail could be behind it. Compare its fingerprint with them: ${line(row.fingerprint)}"}`
      : "");
  }
  to.addEventListener("change", describe);

  /** Fill in what was sent before, once; files are chosen anew. */
  async function again() {
    const id = before;
    before = "";
    if (!id || task.value) return;
    const sent = await get(`/v1/page/dispatches/${seg(id)}`);
    task.value = sent.task;
    for (const { name, control } of texts) control.value = sent[name] ?? "";
    links.value = (sent.links ?? []).join("\n");
    if (sent.files.length) fill(filesTrouble, h("p.care", {}, `Choose its files again: ${sent.files.map((file) => line(file.name)).join(", ")}.`));
  }

  async function load() {
    try {
      const { trust } = await get("/v1/contacts");
      people = new Map(trust.filter((row) => row.direction === "outgoing" && row.status === "active").map((row) => [row.peer, row]));
      const wanted = to.value || new URLSearchParams(location.search).get("to") || "";
      fill(to, h("option", { value: "" }, people.size ? "Choose a contact" : "Nobody yet: invite somebody first"),
        [...people].map(([peer, row]) => h("option", { value: peer }, row.alias ? `${cut(line(row.alias), 60)} (${line(peer)})` : line(peer))));
      to.value = people.has(wanted) ? wanted : "";
      describe();
      await again();
      nobody.hidden = people.size > 0;
      form.hidden = !people.size && !task.value && !files.length;
    } catch (error) {
      fill(trouble, problem(error));
    }
  }

  const form = h("form.compose", { on: { submit: async (event) => {
    event.preventDefault();
    await busy(event.submitter ?? form, trouble, async () => {
      if (files.some((entry) => !entry.upload)) throw new Refused(409, "some files are still being uploaded", "wait a moment");
      const told = await post("/v1/page/dispatches", {
        recipient: to.value,
        task: task.value,
        expires: Number(lifetime.value),
        files: files.map((entry) => entry.upload),
        ...Object.fromEntries(texts.filter(({ control }) => control.value.trim())
          .map(({ name, long, control }) => [name, long ? control.value : control.value.trim()])),
        links: links.value.split("\n").map((each) => each.trim()).filter(Boolean),
      });
      files.length = 0;
      if (told.left_out) toast(`Left out, because their device does not understand it yet: ${line(told.left_out.join(", "))}`);
      go(`/dispatches/${seg(told.dispatch_id)}`);
    });
  } } },
  field("To", to), about,
  field("Task", task, "In your own words. It arrives exactly as you write it. Once it has arrived, you cannot take it back."),
  drop,
  h("details", {}, h("summary", {}, "More: deliverable, background, links"),
    texts.map(({ heading, control }) => field(heading, control)),
    field("Links, one on each line", links, `At most ${limits.links}.`)),
  field("Expires if not accepted within", lifetime),
  h("div.actions", {}, h("button.primary", { type: "submit" }, "Sign and send"), button("Discard", () => go("/sent"))), trouble);
  const nobody = h("div.empty", { hidden: true }, h("p", {}, "Nobody lets you send them tasks yet."),
    h("p.quiet", {}, "You can send tasks to people who have accepted your invitation."),
    h("div.actions", {}, h("a.button.primary", { href: "/invitations" }, "Invite somebody")));

  return {
    title: "New dispatch",
    content: [h("h1", {}, "New dispatch"), nobody, form],
    ready: load(),
    trust: load,
    reset: load,
    leave() {
      const left = files.map((entry) => entry.upload).filter(Boolean);
      if (left.length) remove("/v1/page/uploads", { uploads: left }).catch(() => {});
    },
  };
}
