// What a run changed in the person's folders: the list with its marks, each as a diff, and what becomes of it.

import { diff } from "./approval.js";
import { get, post, seg } from "./api.js";
import { busy, button, confirm, fill, fresh, h, problem } from "./dom.js";
import { bytes, line, quoted } from "./text.js";

const PAGE = 200;
const WHAT = {
  added: "new",
  changed: "changed",
  deleted: "deleted",
  mode: "executable or not",
  renamed: "renamed",
  commits: "made by the run",
  folded: "a folder that tools fill",
  dropped: "never put in place",
  unread: "could not be read",
};

const plural = (count, one, many) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/** Whether an entry can be put in place now. */
const lands = (entry) => !(entry.landed || entry.never || entry.conflict || entry.change === "folded");

/** How much of a change set is in place, in words. */
function standing(told) {
  const parts = [];
  if (told.in_place) parts.push(`${plural(told.in_place, "change is", "changes are")} in place`);
  if (told.waits) parts.push(`${plural(told.waits, "change waits", "changes wait")} for you`);
  if (told.conflicts) parts.push(`${plural(told.conflicts, "is", "are")} in conflict with what you changed meanwhile`);
  return parts.length ? `${parts.join(", ")}.` : "Nothing waits.";
}

/** The card of one attempt's changes. `id`: the dispatch; `attempt`: which run; `changed`: called after a decision. */
export function changesCard(id, attempt, changed) {
  const title = fresh("changes");
  const said = h("div", { role: "status" });
  const trouble = h("div");
  const facts = h("p");
  const list = h("div.changes");
  const actions = h("div.actions");
  const element = h("section.card", { "aria-labelledby": title },
    h("h2", { id: title }, "Changes in your folders"), facts, list, actions, trouble, said);
  const at = `/v1/dispatches/${seg(id)}`;
  let told = null;
  let shown = [];

  async function load() {
    try {
      told = await get(`${at}/changes?attempt=${attempt}&limit=${PAGE}`);
      shown = told.entries;
      draw();
    } catch (error) {
      fill(actions);
      fill(facts, error.code === 410 ? "Nothing waits: they were thrown away." : "");
      fill(list, error.code === 410 ? null : problem(error));
    }
  }

  async function more() {
    const next = await get(`${at}/changes?attempt=${attempt}&limit=${PAGE}&after=${told.next}`);
    told = { ...told, more: next.more, next: next.next };
    shown = [...shown, ...next.entries];
    draw();
  }

  function draw() {
    fill(facts, standing(told));
    const marked = (entry) => (entry.marks.length ? 0 : 1);
    fill(list,
      told.incomplete.map((each) => h("p.care", {}, `Not known: ${each}`)),
      told.folders.map(({ folder }) => [
        h("h3", {}, h("code", {}, line(folder))),
        h("ul.files", {}, shown.filter((entry) => entry.folder === folder)
          .sort((one, other) => marked(one) - marked(other) || one.number - other.number).map(row)),
      ]),
      told.more ? button("Show more", (event) => busy(event.currentTarget, trouble, more), "plain") : null);
    const waits = shown.filter(lands);
    const unmarked = waits.filter((entry) => !entry.marks.length);
    fill(actions,
      unmarked.length ? button(`Put in place all ${unmarked.length < waits.length ? "without a mark" : "of it"}`, () => apply({ all: true }), "primary") : null,
      waits.length ? button("Put in place what is ticked", chosen) : null,
      told.waits ? button("Throw away what waits", discard, "danger") : null,
      told.in_place ? button("Take back what was put in place last", undo) : null);
  }

  function row(entry) {
    const box = lands(entry)
      ? h("input", { type: "checkbox", name: "change", value: String(entry.number), "aria-label": `Choose ${line(entry.path)}` })
      : null;
    const about = [
      entry.renamed_from ? `renamed from ${quoted(entry.renamed_from)}` : WHAT[entry.change] ?? "changed",
      entry.target ? `link to ${quoted(entry.target)}` : "",
      entry.change === "commits" ? plural(entry.count, "commit", "commits") : "",
      entry.count > 1 && entry.change !== "commits" ? plural(entry.count, "file", "files") : "",
      entry.kind === "file" && entry.change !== "deleted" ? bytes(entry.size) : "",
      entry.landed ? "in place" : "",
    ].filter(Boolean);
    const body = h("div");
    const details = h("details", { on: { toggle: () => open(details, body, entry) } },
      h("summary", {}, h("span.name", {}, line(entry.path)), " ", h("span.hint", {}, about.join(", "))), body);
    return h("li.change", {}, box, h("div", {},
      details,
      entry.branches.map((branch) => h("p.hint", {}, "Branch ", quoted(branch.name), " becomes ", h("code", {}, line(branch.ref)), ".")),
      (entry.never ? [] : entry.marks).map((mark) => h("p.care", {}, `Marked: ${mark}`)),
      entry.conflict ? h("p.care", {}, `Conflict: ${entry.conflict}`) : null,
      entry.never ? h("p.hint", {}, entry.never) : null));
  }

  async function open(details, body, entry) {
    if (!details.open || body.childElementCount) return;
    try {
      const one = await get(`${at}/changes/${entry.number}?attempt=${attempt}`);
      fill(body, one.diff ? diff(one.diff) : h("p.quiet", {}, "There is nothing to show as text."));
    } catch (error) {
      fill(body, problem(error));
    }
  }

  async function chosen() {
    const numbers = new Set([...list.querySelectorAll("input[name=change]:checked")].map((each) => Number(each.value)));
    if (!numbers.size) {
      fill(said, h("p.care", {}, "Tick what is to be put in place."));
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

  const apply = (choice) => decide(async () => {
    const done = await post(`${at}/apply`, { attempt, digest: told.digest, ...choice });
    if (!done.ok) return h("div.care", {}, h("p", {}, "Nothing was changed, since not all of it can be put in place:"), reasons(done.refused));
    return [
      h("p.done", {}, `${plural(done.landed.length, "change is", "changes are")} in place.`),
      done.merge.map((command) => h("p.hint", {}, "To take the commits into the branch that you are on: ", h("code", {}, line(command)))),
    ];
  });

  const undo = () => decide(async () => {
    const done = await post(`${at}/undo`, { attempt });
    return [
      h("p.done", {}, `${plural(done.undone.length, "change was", "changes were")} taken back.`),
      done.ok ? null : h("div.care", {}, h("p", {}, "These stay as they are:"), reasons(done.refused)),
    ];
  });

  async function discard() {
    if (!(await confirm("Throw away what waits?", "What is in place stays.", "Throw it away"))) return;
    await decide(async () => {
      await post(`${at}/discard`, { attempt });
      return h("p.done", {}, "Thrown away.");
    });
  }

  return { element, load };
}
