// Lists of dispatches: one row each, drawn as far as they are in sight, read page by page. Which list is lists.js.

import { get } from "./api.js";
import { fill, h, problem } from "./dom.js";
import { cut, line, moment, stateOf, until } from "./text.js";
import { Windowed } from "./windowed.js";

const PAGE = 100;
const OPEN = new Set(["queued", "pending", "accepted", "running"]);

/** Words around what a search found, with the finds marked. */
function snippet(text) {
  return text.split(/[\ue000\ue001]/).map((part, index) => (index % 2 ? h("mark", {}, part) : part));
}

function row(item, { both = false } = {}) {
  const peer = both ? (item.direction === "received" ? "from " : "to ") + item.peer : item.peer;
  const first = cut(line(item.task.trim()), 220);
  const left = item.status === "pending" || item.status === "queued" ? until(item.expires_at) : "";
  return h(
    "a.row",
    { href: `/dispatches/${encodeURIComponent(item.dispatch_id)}`, "data-status": item.status },
    h("span.peer", {}, cut(line(peer), 80)),
    h("span.state", { "data-state": item.status === "pending" && item.direction === "received" ? "decide" : item.status }, stateOf(item), item.changes_waiting ? " · changes wait for you" : "", item.landing ? ` · changes: ${item.landing.words}` : ""),
    h("span.text", {}, item.snippet ? snippet(item.snippet) : first),
    h("time.when", { datetime: item.updated }, left ? `${moment(item.created)} · ends in ${left}` : moment(item.created)),
  );
}

/** A list that reads its pages from `path(before)` and takes in changes. `keep(row)`: whether a new one belongs here. */
export function dispatchList({ path, keep, both = false, empty }) {
  const list = h("ol.rows");
  const note = h("div", {}, h("p.quiet", {}, "Loading…"));
  const element = h("div", {}, list, note);
  let last = null;
  let more = true;
  let reading = null;
  const windowed = new Windowed(list, (item) => row(item, { both }), { estimate: 76, near: () => read() });

  async function read(anew = false) {
    if (reading && !anew) return reading;
    if (!more && !anew) return undefined;
    const mine = (reading = (async () => {
      try {
        const found = await get(path(anew ? null : last, PAGE));
        if (reading !== mine) return;
        const rows = found.dispatches;
        more = found.more ?? rows.length === PAGE;
        last = rows.at(-1)?.dispatch_id ?? last;
        if (anew || windowed.length === 0) windowed.set(rows);
        else windowed.append(rows);
        fill(note, windowed.length ? null : empty);
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

  return {
    element,
    ready: read(true),
    reload: () => read(true),
    leave: () => windowed.leave(),
    changed(item) {
      const index = windowed.indexOf((each) => each.dispatch_id === item.dispatch_id);
      if (index >= 0) windowed.update(index, { ...windowed.at(index), ...item, snippet: windowed.at(index).snippet });
      else if (keep(item)) {
        let at = 0;
        while (at < windowed.length && windowed.at(at).created > item.created) at += 1;
        if (at === windowed.length && more) return;
        windowed.insert(at, item);
        fill(note);
      }
    },
    open: (item) => OPEN.has(item.status),
  };
}
