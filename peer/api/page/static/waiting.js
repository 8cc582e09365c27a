// Everything that waits for this person: calls of runs, invitations, dispatches to decide on, results and changes to look
// at. As a list on top of the inbox, and as a view of its own, where calls are answered.

import { get } from "./api.js";
import { approvalCards } from "./approval.js";
import { byId, fill, h, problem, setTitleCount } from "./dom.js";
import { people, nameOf } from "./people.js";
import { arrows, due, person, titleOf, waits } from "./rows.js";
import { onWaiting, state } from "./state.js";
import { cut, line, plural, whole } from "./text.js";

const LISTED = 20;

/** What was read last, for whoever shows it next and for the numbers beside the navigation. */
export const told = { dispatches: [], invitations: [], more: false, any: true, known: false };
const listeners = new Set();
let reading = null;
let again = false;

/** Read what waits. Calls of runs come by the live stream instead. */
export function readWaiting() {
  if (reading) {
    again = true;
    return reading;
  }
  reading = (async () => {
    try {
      do {
        again = false;
        Object.assign(told, await get("/v1/page/waiting"), { known: true });
      } while (again);
    } finally {
      reading = null;
    }
    for (const listener of [...listeners]) listener();
  })();
  return reading;
}

/** How many things wait, and of them how many calls. */
export function counted() {
  const calls = new Set(state.waiting.map((each) => each.dispatch_id)).size;
  return { calls, all: calls + told.invitations.length + told.dispatches.length, more: told.more };
}

function callRows() {
  const runs = new Map();
  for (const item of state.waiting) runs.set(item.dispatch_id, [...(runs.get(item.dispatch_id) ?? []), item]);
  return [...runs.values()].map((items) => {
    const [first] = items;
    const words = items.length === 1 ? `${line(first.tool)} waits for your answer` : `${items.length} calls wait for your answer`;
    return entry("call", `/dispatches/${encodeURIComponent(first.dispatch_id)}`, tasks.get(first.dispatch_id) ?? "A run", [person(first.sender_id, "for "), " · ", words], "Answer");
  });
}

/** Titles of the runs whose calls wait, by id. */
const tasks = new Map();
async function readTasks() {
  const missing = [...new Set(state.waiting.map((each) => each.dispatch_id))].filter((id) => !tasks.has(id)).slice(0, LISTED);
  if (!missing.length) return false;
  await Promise.all(missing.map(async (id) => {
    try {
      tasks.set(id, titleOf(await get(`/v1/page/dispatches/${encodeURIComponent(id)}`)));
    } catch {
      // Asked again with the next news; until then it is "A run".
    }
  }));
  if (tasks.size > 500) tasks.clear();
  return true;
}

function entry(kind, href, title, about, action) {
  return h("li", {}, h("a.row.waits", { href, "data-kind": kind }, h("span.text", {}, title), " ", h("span.about", {}, about), " ", h("span.do", {}, action)));
}

function invitationRow(item) {
  return entry("invitation", "/invitations", [h("span.person", {}, cut(line(nameOf(item.from)), 60)), " asks to send you tasks"],
    [item.verified ? "their key is verified" : "their key is not verified", " · until ", whole(item.expires)], "Choose");
}

const KINDS = {
  pending: ["decide", "Decide", "wants this done"],
  held: ["held", "Review", "the result waits until you send it"],
  changes: ["changes", "Review", "changes wait for your review"],
};

function dispatchRow(item) {
  const kind = item.status === "pending" ? "pending" : item.status === "held" ? "held" : "changes";
  const [name, action, words] = KINDS[kind];
  const deadline = due(item);
  const what = kind === "changes" ? `${plural(item.changes_waiting, "change waits", "changes wait")} for your review` : words;
  return entry(name, `/dispatches/${encodeURIComponent(item.dispatch_id)}`, titleOf(item),
    [person(item.peer, kind === "pending" ? "" : "for "), kind === "pending" ? null : [" · ", what], deadline ? [" · ", deadline] : null], action);
}

/** The list of what waits, with a heading; nothing where nothing waits. `calls`: whether calls of runs are in it. */
export function waitingList({ calls = true, heading = "Waiting for you", changed = () => {} } = {}) {
  const element = h("section.waiting", { "aria-labelledby": "waiting-title", hidden: true });
  const wrong = h("div");
  let all = false;

  function draw() {
    const dispatches = all ? told.dispatches : told.dispatches.slice(0, LISTED);
    const rows = [...(calls ? callRows() : []), ...told.invitations.slice(0, LISTED).map(invitationRow), ...dispatches.map(dispatchRow)];
    const left = told.dispatches.length - dispatches.length;
    const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    element.hidden = !rows.length;
    fill(element, h("h2", { id: "waiting-title" }, heading), arrows(h("ul.rows", {}, rows)),
      left > 0 ? h("p", {}, h("button.plain", { type: "button", on: { click: () => { all = true; draw(); } } }, `Show ${left.toLocaleString()} more`)) : null,
      all && told.more ? h("p.hint", {}, "The rest appears as you work through these.") : null, wrong);
    if (focused) element.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    changed(rows.length);
  }

  async function drawCalls() {
    draw();
    if (calls && (await readTasks())) draw();
  }
  const stop = onWaiting(() => calls && drawCalls());
  listeners.add(draw);
  people.addEventListener("changed", draw);
  if (told.known) draw();
  return {
    element,
    ready: Promise.all([readWaiting().catch((error) => fill(wrong, problem(error))), drawCalls()]),
    leave() {
      stop();
      listeners.delete(draw);
      people.removeEventListener("changed", draw);
    },
  };
}

/** Hear when what was read of it changed. */
export function onTold(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether a dispatch's row may change what waits: what is being read may be older than the row. */
export const concerns = (row) => reading !== null || !told.known || waits(row) || told.dispatches.some((each) => each.dispatch_id === row.dispatch_id);

export function waiting() {
  const place = h("div.cards");
  const note = h("div");
  let open = null;
  let others = 0;
  const words = () =>
    fill(
      note,
      open
        ? h("p.quiet", {}, open === 1 ? "One call waits." : `${open} calls wait.`,
            h("span.by-keys", {}, open === 1 ? " Keys 1 to 5 answer it." : " Keys 1 to 5 answer the marked one."))
        : open === 0 && !others
        ? h("div.empty", {}, h("p", {}, "Nothing waits for you."), h("p.quiet", {}, "Calls to answer, new tasks, and results and changes to review appear here."),
            h("p", {}, h("a.button", { href: "/inbox" }, "Go to the inbox")))
        : open === 0
        ? h("p.quiet", {}, "No call waits for an answer.")
        : null,
    );
  const cards = approvalCards(place, {
    showLink: true,
    changed: (count) => {
      open = count;
      words();
    },
  });
  const list = waitingList({ calls: false, heading: "Also waiting", changed: (count) => {
    others = count;
    words();
  } });
  const stop = onWaiting((now) => cards.sync(now));
  return {
    title: "Waiting for you",
    content: [h("h1", {}, "Waiting for you"), note, place, list.element],
    ready: Promise.all([cards.sync(state.waiting), list.ready]),
    leave() {
      stop();
      list.leave();
      cards.leave();
    },
  };
}

/** Show the numbers beside the navigation, and how much waits in the tab's title. */
export function showCounts() {
  const { all, calls, more } = counted();
  const numbers = { approvals: all, invitations: told.invitations.length };
  const shown = more ? `${all}+` : String(all);
  setTitleCount(all ? shown : "");
  for (const [name, number] of Object.entries(numbers)) {
    for (const place of document.querySelectorAll(`[data-count=${name}]`)) {
      place.hidden = !number;
      place.textContent = name === "approvals" ? shown : String(number);
      place.setAttribute("aria-label", `${number} open`);
    }
  }
  document.body.classList.toggle("asked", calls > 0);
  byId("nav").dataset.waiting = String(all);
}
