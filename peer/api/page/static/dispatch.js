// One dispatch: what was asked, the decision, the calls that wait, how it ended, the trace as it grows.

import { get, post, seg } from "./api.js";
import { approvalCards } from "./approval.js";
import { changesCard } from "./changes.js";
import { busy, button, confirm, fill, h, long, problem, setTitle } from "./dom.js";
import { decideForm } from "./decide.js";
import { fileList } from "./files.js";
import { heldCard } from "./held.js";
import { resultCard } from "./outcome.js";
import { onWaiting, state } from "./state.js";
import { cut, line, quoted, stateOf, until, whole } from "./text.js";
import { traceView } from "./trace.js";

const OPEN = new Set(["queued", "pending", "accepted", "running", "held"]);
const PROSE = "pre.prose"; // words of people and agents, as they were written
const LIVE = new Set(["accepted", "running"]);
const NARROW = "(max-width: 48rem)"; // where a call that waits would begin below the fold
const TITLE = 120; // characters of a task that stand above it

/** What ended or decided a dispatch, and by whom, in words; "" while it is open. */
export function endedWords(item) {
  const mine = item.direction === "received";
  const because = item.message ? ` — ${line(item.message)}` : "";
  switch (item.status) {
    case "declined":
      // Their words name them once more.
      return mine ? `You declined it${because}` : `${line(item.peer)} declined it${because.replace(`${line(item.peer)} says: `, "")}`;
    case "cancelled":
      return `Cancelled${because}`;
    case "expired":
      return "It expired: nobody accepted it in time";
    case "rejected":
      return `${line(item.peer)}’s machine refused it${because}`;
    case "failed":
      return `The run failed${because}`;
    default:
      return "";
  }
}

/** How it ended, on top; what failed with the reason and what helps. */
function ended(item) {
  const words = endedWords(item);
  if (!words) return null;
  const bad = ["failed", "rejected"].includes(item.status);
  return h(bad ? "div.problem" : "div", {}, h("p.ended", {}, words), bad && item.fix ? h("p.hint", {}, `What helps: ${item.fix}`) : null);
}

/** A sentence of the API, as one that stands alone. */
function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

/** The task's first line, which is what a dispatch is called here; `all`: whether that is the whole task. */
function titleOf(task) {
  const first = task.trim().split("\n")[0].trim();
  return { title: cut(line(first), TITLE), all: first === task.trim() && line(first).length <= TITLE };
}

/** The task and what came with it; null where the title above says it all. */
function asked(item) {
  const texts = state.texts.filter(({ name }) => item[name]);
  const count = item.unknown_fields ?? 0;
  const more = [
    count ? h("p.care", {}, `${count} field${count === 1 ? "" : "s"} this version does not know: update dispatch to see what ${count === 1 ? "it says" : "they say"}.`) : null,
    item.unseen_fields?.length ? h("p.care", {}, "Not seen by its recipient, whose version did not know them: ", line(item.unseen_fields.join(", "))) : null,
    texts.filter((text) => text.long).map(({ name, heading }) => [h("h3", {}, heading), long(item[name], 4000, PROSE)]),
    item.links?.length ? [h("h3", {}, "Links, as text"), h("ul.links", {}, item.links.map((each) => h("li", {}, line(each))))] : null,
    fileList(item.dispatch_id, "attachments", item.files ?? [], "Files that came with it"),
    texts.filter((text) => !text.long).map(({ name, heading }) => h("p.hint", {}, `${heading}: `, quoted(item[name]))),
    Object.keys(item.meta ?? {}).length
      ? h("p.hint", {}, "Metadata: ", Object.entries(item.meta).map(([name, value]) => `${quoted(name)} = ${quoted(value)}`).join("; "))
      : null,
    item.parent ? h("p.hint", {}, h("a", { href: `/dispatches/${seg(item.parent)}` }, "It follows an earlier dispatch")) : null,
  ];
  const shown = more.flat(Infinity).filter(Boolean);
  const { all } = titleOf(item.task);
  if (!shown.length && all) return null;
  return h("section.card", { "aria-labelledby": "task-title" },
    h("h2", { id: "task-title" }, all ? "What came with it" : "Task"), all ? null : long(item.task, 6000, PROSE), shown);
}

export function dispatch({ id }) {
  const place = h("div", {}, h("h1", {}, "Dispatch"), h("p.quiet", {}, "Loading…"));
  const head = h("div");
  const said = h("div", { role: "status" });
  const controls = h("div.controls");
  const decide = h("div");
  const cardsPlace = h("div.cards");
  const outcome = h("div");
  const held = h("div");
  const changes = h("div");
  const sets = new Map(); // attempt → its card and how it stood when it was drawn
  const task = h("div");
  const trace = traceView(() => ({ reply: item?.result?.reply ?? "" }));
  let item = null;
  let drawn = "";
  let result = "";
  let files = "";
  let early = [];
  let newest = null; // what the stream told last of it
  const cards = approvalCards(cardsPlace, { wanted: (call) => call.dispatch_id === id });
  // Of several cards the one in focus, else the first.
  const onKey = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog")) return;
    const known = [...sets.values()].map(({ card }) => card).filter((card) => card.element.isConnected);
    const card = known.find((each) => each.element.contains(document.activeElement)) ?? known.at(-1);
    if (card?.key(event.key)) event.preventDefault();
  };
  document.addEventListener("keydown", onKey);
  const stop = onWaiting((waiting) => {
    cards.sync(waiting.filter((each) => each.dispatch_id === id));
    if (item !== null && LIVE.has(item.status)) drawHead();
  });

  function drawHead() {
    const open = OPEN.has(item.status);
    const received = item.direction === "received";
    const left = until(item.expires_at);
    const asks = received && LIVE.has(item.status) && state.waiting.some((each) => each.dispatch_id === id);
    const away = item.status === "queued" && !item.peer_online;
    fill(
      head,
      h("p.crumb", {}, h("a", { href: received ? "/inbox" : "/sent" }, received ? "Inbox" : "Sent")),
      h("h1.asked-for", {}, titleOf(item.task).title),
      h("p.people-of", {}, received ? "From " : "To ",
        h("a", { href: `/contacts/${seg(item.peer)}` }, h("span.person", {}, line(item.alias || item.peer))),
        item.alias ? h("span.hint", {}, line(item.peer)) : null),
      h("p.facts", {},
        h("span.state", { "data-state": asks || (item.status === "pending" && received) ? "decide" : item.status },
          asks ? "Waits for you" : away ? `Waits until ${line(item.alias || item.peer)} is online` : stateOf(item)),
        h("span", {}, `sent ${whole(item.created)}`),
        ["queued", "pending"].includes(item.status) && left ? h("span", {}, received ? `answer within ${left}` : `${left} left to answer`) : null,
        h("span.hint", {}, `…${item.dispatch_id.slice(-8)}`)),
      ended(item),
      item.removed ? h("p.hint", {}, sentence(item.removed.message)) : null,
    );
    fill(
      controls, // below the calls that wait: those come first
      LIVE.has(item.status) && item.cwd ? h("p.hint", {}, "Runs in ", h("strong", {}, line(item.cwd.split("/").at(-1))), " ", h("code", {}, item.cwd)) : null,
      open && !(received && ["pending", "held"].includes(item.status)) ? cancel() : null,
      !open && !received ? h("p", {}, h("a.button", { href: `/compose?to=${seg(item.peer)}&again=${seg(id)}` }, "Send again")) : null,
    );
  }

  function draw() {
    drawHead();
    const open = OPEN.has(item.status);
    const received = item.direction === "received";
    const now = `${item.status} ${item.attempt}`;
    if (now !== drawn) {
      fill(decide, received && item.status === "pending" ? decideForm(item, decided) : null);
      fill(held, item.held ? heldCard(item, decided) : null);
      drawn = now;
      if (!open) fill(said); // what was said of it while it was open
    }
    // Drawn anew only when it is another, so that what was unfolded stays so.
    const stands = JSON.stringify([item.result, item.landing?.words]);
    if (stands !== result) {
      result = stands;
      fill(outcome, resultCard(item));
      trace.settle();
    }
    for (const row of item.changes ?? []) {
      const stood = `${row.state} ${row.in_place} ${row.waits}`;
      const known = sets.get(row.attempt);
      if (known?.stood === stood || row.state === "removed") continue;
      const card = known?.card ?? changesCard(id, row.attempt, load);
      sets.set(row.attempt, { card, stood });
      if (!known) changes.prepend(card.element);
      card.load();
    }
    const came = JSON.stringify(item.files);
    if (came !== files) {
      files = came;
      fill(task, asked(item));
    }
  }

  function cancel() {
    const trouble = h("div");
    const stopIt = async () => {
      const words = item.direction === "sent" ? "If it is running, the run is stopped." : "The run is stopped at once.";
      if (!(await confirm("Cancel this dispatch?", words, "Cancel it"))) return;
      await busy(trouble.previousSibling, trouble, async () => {
        try {
          await post(`/v1/dispatches/${seg(id)}/cancel`, {});
        } catch (error) {
          if (error.code !== 409 && error.code !== 410) throw error;
          decided("", error);
        }
      });
    };
    return h("div", {}, button("Cancel it", stopIt, "plain.still"), trouble);
  }

  async function decided(words, error = null) {
    await load();
    if (words) fill(said, h("p.done", {}, words));
    else if (error) fill(said, h("p.care", {}, `There is nothing left to decide. ${endedWords(item) || already()}.`));
    document.getElementById("main").focus();
  }

  function already() {
    return item.direction === "received" && OPEN.has(item.status)
      ? `It was already accepted, by you in another window or on the command line; it is ${stateOf(item).toLowerCase()}`
      : `It is ${stateOf(item).toLowerCase()}`;
  }

  async function load() {
    try {
      const [told] = await Promise.all([get(`/v1/page/dispatches/${seg(id)}`), state.settled]); // which texts there are
      const first = item === null;
      item = told;
      draw();
      for (const call of told.approvals ?? []) cards.take(call);
      if (first) {
        place.replaceChildren(head, said, cardsPlace, controls, outcome, held, changes, task, decide, trace.element);
        trace.take(early, false);
        if (told.approvals?.length && matchMedia(NARROW).matches) cardsPlace.scrollIntoView();
        early = [];
        setTitle(titleOf(item.task).title);
      }
      // The stream may have told of a change after this was read and before it arrived.
      if (newest !== null && newest.updated > item.updated) {
        newest = null;
        load();
      }
    } catch (error) {
      if (item === null) fill(place, h("h1", {}, "Dispatch"), problem(error));
      else fill(said, problem(error));
    }
  }

  return {
    title: "Dispatch",
    content: [place],
    follow: id,
    ready: Promise.all([load(), cards.sync(state.waiting.filter((each) => each.dispatch_id === id))]),
    trace({ dispatch_id, events }) {
      if (dispatch_id !== id) return;
      if (item === null) early.push(...events);
      else trace.take(events, LIVE.has(item.status));
    },
    dispatch(row) {
      if (row.dispatch_id !== id) return;
      newest = row;
      if (item === null) return;
      const before = item.status;
      if (before !== row.status && before === "pending" && item.direction === "received" && !decide.contains(document.activeElement) && !said.textContent) {
        fill(said, h("p.done", {}, OPEN.has(row.status) ? "It was accepted in another window or on the command line." : ""));
      }
      if (before !== row.status || !OPEN.has(row.status)) load();
    },
    reset: load,
    leave() {
      stop();
      cards.leave();
      trace.leave();
      document.removeEventListener("keydown", onKey);
      for (const { card } of sets.values()) card.leave();
    },
  };
}
