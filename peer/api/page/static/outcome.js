// How a run ended: what its machine counted, above what its agent says; the reply, the files, the receipt.

import { get, request, save, seg } from "./api.js";
import { busy, button, fill, h } from "./dom.js";
import { fileList } from "./files.js";
import { replyView } from "./reply.js";
import { cost, duration, line, plural } from "./text.js";

/** The facts of a result as [words, whether they deserve a look]: files changed, calls denied, turns, cost, time. */
export function factsOf({ counts = {}, usage = {} }) {
  const { calls_allowed: allowed, calls_denied: denied, files_changed: changed } = counts;
  const facts = [];
  if (allowed !== undefined) {
    facts.push([changed === undefined ? "changes not counted" : changed ? plural(changed, "file changed", "files changed") : "no file changed", false]);
    facts.push(denied ? [`${plural(denied, "call", "calls")} denied`, true] : [allowed ? `${plural(allowed, "call", "calls")}, none denied` : "no calls", false]);
  }
  if (usage.turns) facts.push([plural(usage.turns, "turn", "turns"), false]);
  if (usage.cost_usd) facts.push([cost(usage.cost_usd), false]);
  if (usage.seconds) facts.push([duration(usage.seconds), false]);
  return facts;
}

/** What to keep in mind while reading the reply; "" where nothing is. */
function caution({ counts = {}, reply }) {
  if (!counts.calls_denied || !reply) return "";
  const nothing = counts.files_changed === 0 ? " and no file was changed" : "";
  return `Note: ${plural(counts.calls_denied, "call was", "calls were")} denied${nothing}. Do not rely on the reply alone.`;
}

/** The line of facts above a reply, as whoever ran it counted them. */
export function factsLine(told) {
  const facts = factsOf(told);
  if (!facts.length) return null;
  return [
    h("p.counts", { title: "Counted by the machine that ran it, whatever the reply says" },
      facts.map(([words, care], index) => [index ? " · " : null, h(care ? "span.denied" : "span", {}, words)])),
    caution(told) ? h("p.care", {}, caution(told)) : null,
  ];
}

/** Whether the signatures of a receipt hold, and the receipt itself; asked for when it is unfolded. */
function receipt(id, told) {
  const place = h("div");
  const trouble = h("div");
  const load = () => busy(place, trouble, async () => {
    const { whole, statements, events } = await get(`/v1/page/dispatches/${seg(id)}/receipt`);
    const saved = (event) => busy(event.currentTarget, trouble, async () =>
      save(await request("GET", `/v1/page/dispatches/${seg(id)}/receipt/file`), `dispatch-${id.slice(0, 8)}.receipt`));
    fill(place,
      h(whole ? "p.done" : "p.care", {}, whole
        ? `Checked just now: ${plural(statements, "signature", "signatures")} of both devices hold, and all ${plural(events, "event", "events")} are there.`
        : "The signatures hold, but the events are no longer kept here, so it is not complete."),
      told.sandbox?.tier ? h("p.hint", {}, `Sandbox: ${line(told.sandbox.tier)}.`) : null,
      h("div.actions", {}, button("Save the receipt", saved)),
      h("p.hint", {}, "Anybody can check it: ", h("code", {}, `dispatch verify-receipt dispatch-${id.slice(0, 8)}.receipt`)));
  });
  return h("details.receipt", { on: { toggle: (event) => event.currentTarget.open && !place.childElementCount && load() } },
    h("summary", {}, "Receipt: signed proof of what was asked and done"), place, trouble);
}

/** The card of a result; null while there is none. */
export function resultCard(item) {
  const told = item.result;
  if (!told) return null;
  const failed = told.status !== "completed";
  return h("section.card.result", { "aria-labelledby": "result-title" },
    h("h2", { id: "result-title" }, failed ? "How it ended" : "Result"),
    factsLine(told),
    told.reply ? replyView(item.dispatch_id, told.reply) : h("p.quiet", {}, "The agent wrote no reply."),
    fileList(item.dispatch_id, "returned", told.files ?? [], "Returned files"),
    item.landing ? h("p.landing", {}, `Changes: ${item.landing.words}.`) : null,
    receipt(item.dispatch_id, told));
}
