// What a run changed in the person's folders: the list with its marks, each as a diff, and what becomes of it.

import { get, post, seg } from "./api.js";
import { change, lands, lineCounts, shows } from "./change.js";
import { busy, button, confirm, fill, fresh, h, problem } from "./dom.js";
import { line, plural, quoted } from "./text.js";

const PAGE = 200;
const LAYOUT = "dispatch-page-diff"; // what was chosen, in this browser: "split" or "unified"
const WIDE = "(min-width: 75rem)";
const UNFOLDED = { files: 12, lines: 400 }; // that are shown at once without being asked for

/** How much of a change set is applied, in words. */
function standing(told) {
  const parts = [];
  if (told.in_place) parts.push(`${plural(told.in_place, "change is", "changes are")} applied`);
  if (told.waits) parts.push(`${plural(told.waits, "change waits", "changes wait")} for you`);
  if (told.marked) parts.push(`${told.marked.toLocaleString()} of them marked`);
  if (told.conflicts) parts.push(`${plural(told.conflicts, "conflicts", "conflict")} with your own changes`);
  return parts.length ? `${parts.join(", ")}.` : "Nothing waits.";
}

/** What deserves a look comes first: conflicts, then marks; what never lands comes last. */
const rank = (entry) => (entry.never || entry.change === "folded" ? 3 : entry.conflict ? 0 : entry.marks.length ? 1 : 2);

/** The card of one attempt's changes. `id`: the dispatch; `attempt`: which run; `changed`: called after a decision. */
export function changesCard(id, attempt, changed) {
  const title = fresh("changes");
  const said = h("div", { role: "status" });
  const trouble = h("div");
  const facts = h("p");
  const tools = h("div.actions.tools");
  const list = h("div.changes");
  const actions = h("div.actions");
  const element = h("section.card", { "aria-labelledby": title },
    h("h2", { id: title }, "Changes in your folders"), facts, tools, list, actions, trouble, said);
  const at = `/v1/dispatches/${seg(id)}`;
  const query = `?attempt=${attempt}`;
  const wide = matchMedia(WIDE);
  const files = new Map(); // number of the entry → its change
  const counts = new Map();
  let told = null;
  let first = true;

  const split = () => wide.matches && localStorage.getItem(LAYOUT) !== "unified";
  const inOrder = () => [...element.querySelectorAll("li.change")].map((each) => [...files.values()].find((file) => file.element === each));

  async function load() {
    try {
      told = await get(`${at}/changes${query}&limit=${PAGE}`);
      draw();
      const counted = count(0);
      if (first) counted.then(unfoldSome);
      first = false;
    } catch (error) {
      fill(tools);
      fill(actions);
      fill(facts, error.code === 410 ? "Nothing waits: they were discarded." : "");
      fill(list, error.code === 410 ? null : problem(error));
    }
  }

  async function more() {
    const after = told.next;
    const next = await get(`${at}/changes${query}&limit=${PAGE}&after=${after}`);
    told = { ...next, entries: [...told.entries, ...next.entries] };
    draw();
    count(after);
  }

  /** Ask how many lines each change adds and removes; without an answer the list is as good. */
  async function count(after) {
    try {
      const counted = await get(`${at}/changes${query}&limit=${PAGE}&after=${after}&counts=1`);
      for (const { number, added, removed } of counted.entries) {
        if (added === null && counts.has(number)) continue; // it is in place now, and what it replaced is not there any more
        counts.set(number, { added, removed });
        files.get(number)?.count({ added, removed });
      }
      drawFacts();
    } catch {
      // Nothing was counted.
    }
  }

  /** Unfold what is short, from the top, as long as it is not too much together. */
  async function unfoldSome() {
    let left = UNFOLDED.lines;
    for (const file of inOrder().slice(0, UNFOLDED.files)) {
      const known = counts.get(file.entry.number);
      if (!shows(file.entry) || !known || known.added === null) continue;
      if (known.added + known.removed > left) continue;
      left -= known.added + known.removed;
      await file.unfold();
    }
  }

  function drawFacts() {
    const known = [...counts.values()].filter(({ added }) => added !== null);
    const sum = (which) => known.reduce((all, each) => all + each[which], 0);
    fill(facts, standing(told), " ", known.length ? lineCounts(sum("added"), sum("removed")) : null,
      known.length && told.more ? " in those listed" : null);
  }

  function draw() {
    drawFacts();
    for (const entry of told.entries) {
      if (files.has(entry.number)) files.get(entry.number).update(entry);
      else files.set(entry.number, change(entry, { at: `${at}/changes`, query, split }));
    }
    const focus = document.activeElement;
    fill(list,
      told.network.map(({ host, use }) => h("p", {}, `Over the network: ${line(host)}: ${use}`)),
      told.incomplete.map((each) => h("p.care", {}, `Not known: ${each}`)),
      told.folders.map(({ folder }) => [
        h("h3", {}, h("code", {}, line(folder))),
        h("ul.files", {}, told.entries.filter((entry) => entry.folder === folder)
          .sort((one, other) => rank(one) - rank(other) || one.number - other.number).map((entry) => files.get(entry.number).element)),
      ]),
      told.more ? button("Show more", (event) => busy(event.currentTarget, trouble, more), "plain") : null);
    if (focus?.isConnected && focus !== document.activeElement) focus.focus({ preventScroll: true });
    drawTools();
    const waits = told.entries.filter(lands);
    const unmarked = waits.filter((entry) => !entry.marks.length);
    fill(actions,
      unmarked.length ? button(`Apply all${unmarked.length < waits.length ? " without a mark" : ""}`, () => apply({ all: true }), "primary") : null,
      waits.length ? button("Apply selected", chosen) : null,
      told.waits ? button("Discard waiting changes", discard, "danger") : null,
      told.in_place ? button("Undo last apply", undo) : null);
  }

  function drawTools() {
    if (!told?.entries.some(shows)) {
      fill(tools);
      return;
    }
    const all = (work) => async () => {
      for (const file of inOrder()) if (shows(file.entry)) await work(file);
    };
    const keys = [["j", "k", "next and previous file"], ["n", "p", "next and previous change"], ["f", "", "fold or unfold"]];
    fill(tools,
      button("Unfold all", all((file) => file.unfold()), "plain"),
      button("Fold all", all((file) => file.fold()), "plain"),
      wide.matches
        ? h("button.plain", { type: "button", "aria-pressed": String(split()), on: { click: turn } }, "Side by side")
        : null,
      h("span.hint.keys", {}, keys.map(([one, other, what]) => h("span", {}, h("kbd", {}, one), other ? h("kbd", {}, other) : null, ` ${what}`))));
  }

  function turn() {
    localStorage.setItem(LAYOUT, split() ? "unified" : "split");
    relay();
    tools.querySelector("[aria-pressed]")?.focus();
  }

  function relay() {
    for (const file of files.values()) file.layout(split());
    drawTools();
  }
  wide.addEventListener("change", relay);

  /** The key of somebody who looks through the changes; whether it meant something here. */
  function key(pressed) {
    const step = { j: 1, k: -1, n: 1, p: -1 }[pressed];
    if (!told?.entries.length || (!step && pressed !== "f")) return false;
    const order = inOrder();
    const here = order.findIndex((file) => file.element.contains(document.activeElement));
    if (pressed === "f") {
      const file = order[Math.max(here, 0)];
      if (file.open) file.fold();
      else file.unfold();
      file.summary.focus();
    } else if (pressed === "j" || pressed === "k") order[here < 0 ? 0 : here + step]?.summary.focus();
    else toChange(order, here, step);
    return true;
  }

  async function toChange(order, here, step) {
    const from = document.activeElement;
    const beyond = (place) => {
      const position = from.compareDocumentPosition(place);
      return position & (step > 0 ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING);
    };
    for (let index = Math.max(here, 0); order[index]; index += step) {
      if ((index !== here || step > 0) && shows(order[index].entry)) await order[index].unfold();
      const places = order[index].places().filter((place) => index !== here || beyond(place));
      const next = step > 0 ? places[0] : places.at(-1);
      if (next) {
        next.focus();
        return;
      }
    }
  }

  async function chosen() {
    const numbers = new Set([...list.querySelectorAll("input[name=change]:checked")].map((each) => Number(each.value)));
    if (!numbers.size) {
      fill(said, h("p.care", {}, "Select the changes to apply."));
      return;
    }
    await apply({ numbers: [...numbers] });
  }

  const decide = (work) => busy(actions, trouble, async () => {
    const words = await work();
    await load();
    fill(said, words);
    changed();
  });

  const reasons = (refused) => h("ul", {}, refused.map((each) => h("li", {}, `${quoted(each.path)}: ${each.reason}`)));

  const final = (paths) => paths.slice(0, 20).map(quoted).join(", ") + (paths.length > 20 ? `, and ${paths.length - 20} more` : "");

  const apply = (choice) => decide(async () => {
    const asked = { attempt, digest: told.digest, ...choice };
    const would = await post(`${at}/apply`, { ...asked, dry_run: true });
    if (would.irreversible.length) {
      const words = `The earlier versions are too large to keep: ${final(would.irreversible)}.`;
      if (!(await confirm("Some of it cannot be undone", words, "Apply it anyway"))) return h("p.care", {}, "Nothing was changed.");
    }
    const done = await post(`${at}/apply`, asked);
    if (!done.ok) return h("div.care", {}, h("p", {}, "Nothing was changed, because some of it cannot be applied:"), reasons(done.refused));
    return [
      h("p.done", {}, `${plural(done.landed.length, "change", "changes")} applied.`),
      done.irreversible.length ? h("p.care", {}, `These cannot be undone: ${final(done.irreversible)}.`) : null,
      done.merge.map((command) => h("p.hint", {}, "To merge the commits into your current branch: ", h("code", {}, line(command)))),
    ];
  });

  const undo = () => decide(async () => {
    const done = await post(`${at}/undo`, { attempt });
    return [
      h("p.done", {}, `${plural(done.undone.length, "change", "changes")} undone.`),
      done.ok ? null : h("div.care", {}, h("p", {}, "These stay as they are:"), reasons(done.refused)),
    ];
  });

  async function discard() {
    if (!(await confirm("Discard waiting changes?", "What is applied stays.", "Discard it"))) return;
    await decide(async () => {
      await post(`${at}/discard`, { attempt });
      return h("p.done", {}, "Discarded.");
    });
  }

  const leave = () => wide.removeEventListener("change", relay);
  return { element, load, key, leave };
}
