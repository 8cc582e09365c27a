// One change of a run: what it is, why it deserves a look, and its diff, which is asked for when it is unfolded.

import { get } from "./api.js";
import { diffTable, plainDiff } from "./diff.js";
import { fill, h, problem } from "./dom.js";
import { bytes, line, plural, quoted } from "./text.js";

const WHOLE = 1_000_000; // lines around each change: all that a text that is shown can have
const WHAT = {
  added: "new",
  changed: "changed",
  deleted: "deleted",
  mode: "executable or not",
  renamed: "renamed",
  commits: "made by the run",
  folded: "a folder that tools generate",
  dropped: "never applied",
  unread: "could not be read",
};

/** Whether an entry can be applied now. */
export const lands = (entry) => !(entry.landed || entry.never || entry.conflict || entry.change === "folded");

/** Whether a diff of it may be had. */
export const shows = (entry) => !["folded", "dropped", "unread"].includes(entry.change);

/** How many lines are added and removed, as an element; null where that is not known. */
export function lineCounts(added, removed) {
  if (added === null || added === undefined) return null;
  return h("span.lines", {},
    h("span.plus", { role: "img", "aria-label": plural(added, "line added", "lines added") }, `+${added.toLocaleString()}`), " ",
    h("span.minus", { role: "img", "aria-label": plural(removed, "line removed", "lines removed") }, `−${removed.toLocaleString()}`));
}

let colouring = Promise.resolve(); // one file after the other: the daemon colours no two at once

/** `at`: the address of the change set's entries; `query`: which attempt; `split()`: whether in two columns. */
export function change(given, { at, query, split }) {
  let entry = given;
  let counts = null;
  let table = null;
  let loading = null;
  const body = h("div.body");
  const tick = h("div.tick");
  const name = h("summary", {});
  const details = h("details", { on: { toggle: () => details.open && load() } }, name, body);
  const element = h("li.change", {}, tick, h("div", {}, details));

  function draw() {
    const about = [
      entry.renamed_from ? `renamed from ${quoted(entry.renamed_from)}` : WHAT[entry.change] ?? "changed",
      entry.target ? `link to ${quoted(entry.target)}` : "",
      entry.change === "commits" ? plural(entry.count, "commit", "commits") : "",
      entry.count > 1 && entry.change !== "commits" ? plural(entry.count, "file", "files") : "",
      entry.kind === "file" && entry.change !== "deleted" ? bytes(entry.size) : "",
      entry.landed ? "applied" : "",
    ].filter(Boolean);
    const notes = [entry.conflict ? `Conflict: ${entry.conflict}` : "", ...(entry.never ? [] : entry.marks.map((mark) => `Marked: ${mark}`))].filter(Boolean);
    fill(name,
      h("span.name", {}, line(entry.path)), " ", lineCounts(counts?.added, counts?.removed), " ", h("span.hint", {}, about.join(", ")),
      notes.map((note) => [" ", h("span.care", {}, note)]),
      entry.branches.map((branch) => [" ", h("span.hint", {}, "Branch ", quoted(branch.name), " becomes ", h("code", {}, line(branch.ref)), ".")]),
      entry.never ? [" ", h("span.hint", {}, entry.never)] : null);
    if (!lands(entry)) fill(tick);
    else if (!tick.childElementCount) {
      fill(tick, h("input", { type: "checkbox", name: "change", value: String(entry.number), "aria-label": `Choose ${line(entry.path)}` }));
    }
  }

  /** Show the diff, and colour it when that is known. Asked for once, unless it failed. */
  function load() {
    loading ??= (async () => {
      try {
        const one = shows(entry) ? await get(`${at}/${entry.number}${query}&context=${WHOLE}`) : { diff: "" };
        // Of commits the text has messages as well.
        table = one.diff && entry.change !== "commits" ? diffTable(one.diff, `What changes in ${line(entry.path)}`) : null;
        table?.layout(split());
        fill(body, table?.element ?? (one.diff ? plainDiff(one.diff) : h("p.quiet", {}, "Nothing here can be shown as text.")));
        if (table) colouring = colouring.then(colour);
      } catch (error) {
        loading = null;
        fill(body, problem(error));
      }
    })();
    return loading;
  }

  async function colour() {
    if (!element.isConnected) return;
    try {
      const { colours } = await get(`${at}/${entry.number}${query}&colours=1`);
      if (colours) table.colour(colours);
    } catch {
      // It stays as it is: the diff is whole without.
    }
  }

  draw();
  return {
    element,
    summary: name,
    get entry() {
      return entry;
    },
    get open() {
      return details.open;
    },
    /** Show how it stands now. */
    update(now) {
      entry = now;
      draw();
    },
    count(known) {
      counts = known;
      draw();
    },
    /** Unfold it; resolves when its diff is there. */
    unfold() {
      details.open = true;
      return load();
    },
    fold() {
      details.open = false;
    },
    places: () => (details.open ? (table?.places() ?? []) : []),
    layout: (wanted) => table?.layout(wanted),
  };
}
