// What happened in a run: one line for each call, with all of it behind that; what the agent said; how the run went on.
// A long one is drawn as far as it is in sight; a shorter one whole, so that the browser finds words in it.

import { headline, pairs } from "./call.js";
import { h, long } from "./dom.js";
import { clock, cut, plural, quoted, word } from "./text.js";
import { Windowed } from "./windowed.js";

const BY = {
  scope: "by the edge’s scope",
  rule: "by a stored rule",
  session: "as granted for this run",
  person: "by a person",
  timeout: "because two minutes had passed",
  edge: "by the edge",
};
const SHORT = 1500;
const WHOLE = 200; // events up to which a trace is drawn whole

/** How long it took, in words; "" where that is not known. */
function took(from, to) {
  const spent = new Date(to).getTime() - new Date(from).getTime();
  if (!(spent >= 0)) return "";
  if (spent < 50) return "";
  return spent < 9950 ? `${(spent / 1000).toFixed(1)} s` : `${Math.round(spent / 1000).toLocaleString()} s`;
}

/** What became of a call: [words, "good" | "bad" | "open"]. */
function outcome({ answer, result }) {
  if (answer?.outcome === "unanswered") return ["nobody answered", "bad"];
  if (answer && answer.outcome !== "allowed") return ["denied", "bad"];
  if (result) return result.ok === false ? ["failed", "bad"] : ["done", "good"];
  return answer ? ["running", "open"] : ["waits", "open"];
}

function answerWords(answer) {
  const grant = { session: ", for this run", always: ", always from now on" }[answer.grant] ?? "";
  const said = { allowed: "Allowed", denied: "Denied", unanswered: "Nobody answered, so it was denied" }[answer.outcome] ?? word(answer.outcome);
  return `${said} ${BY[answer.by] ?? ""}${grant}`;
}

function callBody({ call, answer, result }) {
  const given = call.input ?? {};
  const only = Object.values(given);
  return h("div.body", {},
    only.length === 1 && typeof only[0] === "string" ? long(only[0], SHORT) : pairs(given),
    answer ? h("p", {}, answerWords(answer), answer.note ? h("span.hint", {}, ` — ${quoted(answer.note)}`) : null) : null,
    result ? [h("p.hint", {}, result.ok === false ? "Error output:" : "What came back:"), long(String(result.output ?? ""), SHORT)] : null);
}

function callRow(step, { whole }) {
  const { call, answer, result } = step;
  const [words, kind] = outcome(step);
  const body = h("div");
  const details = h("details.step", {
    open: step.open,
    on: { toggle: () => {
      step.open = details.open;
      if (details.open && !body.childElementCount) body.append(callBody(step));
    } },
  },
  h("summary", {},
    h("span.does", {}, headline(call.words)),
    h("span.outcome", {}, h("span.ended", { "data-kind": kind }, words),
      answer?.note && kind === "bad" ? h("span.why", {}, quoted(cut(answer.note, 60))) : null,
      h("span.took", {}, answer && result ? took(answer.at, result.at) : ""))),
  body);
  if (whole || step.open) body.append(callBody(step));
  return details;
}

/** A text of one line as it is, a longer one as a block. */
function said(event, reply) {
  if (reply && event.text === reply) {
    return h("details.step", {}, h("summary", {}, h("span.does", {}, "The reply (shown above)"), h("span.outcome")),
      h("div.body", {}, long(reply, SHORT, "pre.prose")));
  }
  return h("div.said", {}, long(String(event.text ?? ""), SHORT, "pre.prose"));
}

function content(step, run) {
  const { event } = step;
  if (step.call) return callRow(step, run);
  switch (event.kind) {
    case "reasoning":
      return said(event, run.reply);
    case "status":
      return h("p.status", {}, "Run: ", word(event.status).replaceAll("_", " "), event.detail ? ` — ${quoted(event.detail)}` : "");
    case "approval":
      return h("p.status", {}, answerWords(event), event.note ? h("span.hint", {}, ` — ${quoted(event.note)}`) : null);
    default:
      return h("div.said", {}, h("p.hint", {}, word(event.kind)), long(JSON.stringify(event), SHORT));
  }
}

/** Take events in: each becomes a step, or completes the one of its call. Returns which steps changed, and which are new. */
function taking(events, steps, calls) {
  const changed = new Set();
  const from = steps.length;
  for (const event of events) {
    const name = `${event.attempt} ${event.call_id}`;
    const known = event.call_id === undefined ? undefined : calls.get(name);
    if (event.kind === "tool_call") {
      calls.set(name, steps.length);
      steps.push({ event, call: event, answer: null, result: null, open: false });
    } else if (known !== undefined && (event.kind === "approval" || event.kind === "tool_result")) {
      steps[known][event.kind === "approval" ? "answer" : "result"] = event;
      if (known < from) changed.add(known);
    } else steps.push({ event });
  }
  return { changed, fresh: steps.slice(from) };
}

function row(step, attempts, run) {
  const { event } = step;
  return h("div.event", { "data-kind": event.kind, "data-ok": step.call && outcome(step)[1] === "bad" ? "no" : "yes" },
    content(step, run),
    h("div.when", {}, h("time", { datetime: event.at ?? null }, event.at ? clock(event.at) : ""), attempts > 1 ? h("span.hint", {}, `run ${event.attempt}`) : null));
}

/** Events as a plain list, for a part of a trace that does not grow. */
export function eventList(events) {
  const steps = [];
  taking(events, steps, new Map());
  return h("ol.trace", {}, steps.map((step) => h("li", {}, row(step, 1, { reply: "", whole: true }))));
}

/** The trace as a section; `take(events)` adds to it. `run()`: {reply}, what it said last. */
export function traceView(run) {
  const list = h("ol.trace", { "aria-label": "What happened, in order", role: "list" });
  const latest = h("button.latest", { type: "button", hidden: true, on: { click: () => jump() } }, "Show the latest");
  const count = h("span.count-words.hint");
  const element = h("section", { "aria-labelledby": "trace-title", hidden: true }, h("h2", { id: "trace-title" }, "What happened ", count), list, latest);
  const steps = [];
  const calls = new Map();
  let attempts = 1;
  let taken = 0;
  let last = 0;
  let windowed = null;
  const draw = (step) => row(step, attempts, { ...run(), whole: !windowed }); // whole: found by the browser, though folded

  const atEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 160;
  function jump() {
    scrollTo({ top: document.documentElement.scrollHeight });
    latest.hidden = true;
  }
  const onScroll = () => {
    if (atEnd()) latest.hidden = true;
  };
  addEventListener("scroll", onScroll, { passive: true });

  function show({ changed, fresh }) {
    if (!windowed && taken > WHOLE) {
      list.replaceChildren();
      windowed = new Windowed(list, draw, { estimate: 48 });
      windowed.set(steps);
    } else if (windowed) {
      for (const index of changed) windowed.update(index, steps[index]);
      windowed.append(fresh);
    } else {
      for (const index of changed) {
        const item = list.children[index];
        const focused = item.contains(document.activeElement);
        item.replaceChildren(draw(steps[index]));
        if (focused) item.querySelector("summary")?.focus({ preventScroll: true });
      }
      list.append(...fresh.map((step) => h("li", {}, draw(step))));
    }
  }

  return {
    element,
    /** Show the last thing that was said anew, once it is known to be the reply. */
    settle() {
      const { reply } = run();
      const index = reply ? steps.findLastIndex((step) => step.event.kind === "reasoning") : -1;
      if (index >= 0 && steps[index].event.text === reply && !steps[index].settled) {
        steps[index].settled = true;
        show({ changed: new Set([index]), fresh: [] });
      }
    },
    /** Add events; `live`: follow them where the person is at the end already. */
    take(events, live) {
      const fresh = events.filter((event) => event.seq > last);
      if (!fresh.length) return;
      const follows = live && !element.hidden && atEnd() && scrollY > 0;
      element.hidden = false;
      attempts = Math.max(attempts, ...fresh.map((event) => event.attempt ?? 1));
      last = fresh.at(-1).seq;
      taken += fresh.length;
      show(taking(fresh, steps, calls));
      count.textContent = plural(taken, "event", "events");
      if (follows) requestAnimationFrame(() => requestAnimationFrame(jump));
      else if (live && steps.length > 20 && !atEnd()) latest.hidden = false;
    },
    get length() {
      return taken;
    },
    leave() {
      removeEventListener("scroll", onScroll);
      windowed?.leave();
    },
  };
}
