// Rows of dispatches: the task as the title, whom it concerns beneath, what is to be done about it. Which list: lists.js.

import { get } from "./api.js";
import { fill, h, problem } from "./dom.js";
import { isOnline, nameOf, people } from "./people.js";
import { onWaiting, state } from "./state.js";
import { STATES, cut, line, moment, until } from "./text.js";
import { Windowed } from "./windowed.js";

const PAGE = 100;
const EXPLAINED = new Set(["failed", "rejected", "declined", "cancelled", "expired"]);

/** The first line of a task that says something: what a dispatch is called. */
export function titleOf(item) {
  const first = item.task.split(/\r\n|[\n\r\u2028\u2029]/).find((each) => each.trim()) ?? "";
  return cut(line(first.trim()), 200) || "(no words)";
}

/** Whether a dispatch waits for a decision of this person, apart from tool calls. */
export function waits(item) {
  if (item.direction !== "received") return false;
  return item.status === "pending" || item.status === "held" || Boolean(item.changes_waiting);
}

/** Whether a run waits for an answer to a call. */
export const asksNow = (item) => state.waiting.some((each) => each.dispatch_id === item.dispatch_id);

/** What a dispatch's state is called in a list, and how it is coloured: [words, kind]. */
export function stateWords(item) {
  if (item.direction === "received") {
    if (item.status === "pending") return ["Needs your decision", "decide"];
    if (item.status === "running" && asksNow(item)) return ["Waits for you", "decide"];
    if (item.status === "held") return ["Result to review", "held"];
    if (item.changes_waiting) return ["Changes to review", "held"];
    return [STATES[item.status] ?? line(item.status), item.status];
  }
  const name = cut(line(nameOf(item.peer)), 40);
  if (item.status === "queued") return isOnline(item.peer) === false ? [`Waits until ${name} is online`, "queued"] : ["On its way", "queued"];
  if (item.status === "pending") return ["Waits for their answer", "pending"];
  if (item.status === "held") return ["They are reviewing the result", "running"];
  return [STATES[item.status] ?? line(item.status), item.status];
}

/** Until when something is to be done, in words that are kept right while they are shown. */
export function due(item) {
  if (item.status !== "pending" && item.status !== "queued") return null;
  const words = item.direction === "received" ? "answer within *" : item.status === "pending" ? "they have * to answer" : "ends in *";
  const left = until(item.expires_at);
  return left ? h("span.due", { "data-until": item.expires_at, "data-words": words }, words.replace("*", left)) : null;
}

setInterval(() => {
  for (const each of document.querySelectorAll("[data-until]")) {
    const left = until(each.dataset.until);
    const words = left ? each.dataset.words.replace("*", left) : "expired";
    if (each.textContent !== words) each.textContent = words;
  }
}, 15000);

/** Words around what a search found, with the finds marked. */
function snippet(text) {
  return text.split(/[\ue000\ue001]/).map((part, index) => (index % 2 ? h("mark", {}, part) : part));
}

/** Whom a row is about: what they are called here and their address. */
export function person(peer, before = "") {
  const name = nameOf(peer);
  return h("span.peer", {}, before, h("span.person", {}, cut(line(name), 60)), name === peer ? null : [" ", h("span.address", {}, cut(line(peer), 80))]);
}

/** One dispatch as a row that leads to it. */
export function row(item, { both = false } = {}) {
  const [words, kind] = stateWords(item);
  const before = item.direction === "received" ? (both ? "from " : "") : "to ";
  const why = EXPLAINED.has(item.status) && item.message ? cut(line(item.message), 240) : "";
  const deadline = due(item);
  return h(
    "a.row",
    { href: `/dispatches/${encodeURIComponent(item.dispatch_id)}`, "data-status": item.status },
    h("span.text", {}, titleOf(item)), " ",
    h("time.when", { datetime: item.updated }, moment(item.created)), " ",
    h("span.about", {}, person(item.peer, before), deadline ? [" · ", deadline] : null, item.landing ? [" · ", `changes: ${item.landing.words}`] : null), " ",
    h("span.state", { "data-state": kind }, words),
    why ? [" ", h("span.why", {}, why)] : null,
    item.snippet && item.snippet.replace(/[\ue000\ue001]/g, "") !== item.peer ? [" ", h("span.found", {}, snippet(item.snippet))] : null,
  );
}

/** Let the arrow keys lead from one row to the next in a list that is drawn whole. */
export function arrows(list) {
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...list.querySelectorAll("a.row")];
    const next = links[links.indexOf(document.activeElement) + step];
    if (!next || !links.includes(document.activeElement)) return;
    event.preventDefault();
    next.focus();
  });
  return list;
}

/**
 * A list that reads its pages from `path(before, limit)` and takes in changes. `keep(row)`: whether a new one belongs
 * here; `hide(row)`: whether one is shown elsewhere for now.
 */
export function dispatchList({ path, keep, both = false, hide = null, empty }) {
  const list = h("ol.rows");
  const note = h("div", {}, h("p.quiet", {}, "Loading…"));
  const element = h("div", {}, list, note);
  let last = null;
  let more = true;
  let reading = null;
  const hides = Boolean(hide);
  hide ??= () => false;
  const windowed = new Windowed(list, (item) => row(item, { both }), { estimate: 68, near: () => read() });

  const settle = () => fill(note, windowed.length || more ? null : typeof empty === "function" ? empty() : empty);

  function drop(index) {
    windowed.set(Array.from({ length: windowed.length }, (_, at) => windowed.at(at)).filter((_, at) => at !== index));
    settle();
  }

  async function read(anew = false) {
    if (reading && !anew) return reading;
    if (!more && !anew) return undefined;
    const mine = (reading = (async () => {
      try {
        let fresh = anew;
        do {
          const found = await get(path(fresh ? null : last, PAGE));
          if (reading !== mine) return;
          const rows = found.dispatches;
          more = (found.more ?? rows.length === PAGE) && rows.length > 0;
          last = rows.at(-1)?.dispatch_id ?? last;
          const shown = rows.filter((item) => !hide(item));
          if (fresh || windowed.length === 0) windowed.set(shown);
          else windowed.append(shown);
          fresh = false;
        } while (more && windowed.length === 0);
        settle();
      } catch (error) {
        fill(note, problem(error));
      } finally {
        if (reading === mine) reading = null;
      }
    })());
    return mine;
  }

  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = Number(event.target.closest("li")?.dataset.index);
    if (!step || Number.isNaN(at)) return;
    event.preventDefault();
    windowed.focus(at + step);
  });

  /** Draw again what says who somebody is, or whether they wait. */
  const again = () => {
    for (let index = 0; index < windowed.length; index += 1) windowed.update(index, windowed.at(index));
  };
  people.addEventListener("changed", again);
  let asked = new Set();
  const stop = onWaiting(() => {
    const now = new Set(state.waiting.map((each) => each.dispatch_id));
    const changed = new Set([...now, ...asked].filter((id) => now.has(id) !== asked.has(id)));
    asked = now;
    for (const id of changed) {
      const index = windowed.indexOf((each) => each.dispatch_id === id);
      if (index >= 0 && hide(windowed.at(index))) drop(index);
      else if (index >= 0) windowed.update(index, windowed.at(index));
    }
    // What was shown elsewhere until now comes back to its place.
    if (changed.size && [...changed].some((id) => !now.has(id)) && hides) read(true);
  });

  return {
    element,
    ready: read(true),
    reload: () => read(true),
    leave() {
      people.removeEventListener("changed", again);
      stop();
      windowed.leave();
    },
    changed(item) {
      const index = windowed.indexOf((each) => each.dispatch_id === item.dispatch_id);
      const wanted = keep(item) && !hide(item);
      if (index >= 0 && hide(item)) drop(index);
      else if (index >= 0) windowed.update(index, { ...windowed.at(index), ...item, snippet: windowed.at(index).snippet });
      else if (wanted) {
        let at = 0;
        while (at < windowed.length && windowed.at(at).created > item.created) at += 1;
        if (at === windowed.length && more) return;
        windowed.insert(at, item);
        settle();
      }
    },
  };
}
