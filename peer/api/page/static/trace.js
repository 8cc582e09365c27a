// What happened in a run, event by event: only the rows in sight are drawn, and it follows a live run to its end.

import { h, long } from "./dom.js";
import { clock, quoted, word } from "./text.js";
import { pairs } from "./approval.js";
import { Windowed } from "./windowed.js";

const OUTCOMES = { allowed: "Allowed", denied: "Denied", unanswered: "Nobody answered, so it was denied" };
const BY = {
  scope: "by the edge’s scope",
  rule: "by a stored rule",
  session: "as before in this run",
  person: "by a person",
  timeout: "since two minutes had passed",
  edge: "by the edge",
};
const SHORT = 1500;

function content(event) {
  switch (event.kind) {
    case "reasoning":
      return ["Agent", long(String(event.text ?? ""), SHORT, "pre.prose")];
    case "tool_call": {
      const given = event.input ?? {};
      const only = Object.values(given);
      return [h("code", {}, String(event.tool ?? "")), only.length === 1 && typeof only[0] === "string" ? long(only[0], SHORT) : pairs(given)];
    }
    case "tool_result":
      return [event.ok ? "Result" : "Did not work", long(String(event.output ?? ""), SHORT)];
    case "approval": {
      const grant = { session: ", for this run", always: ", always from now on" }[event.grant] ?? "";
      const words = `${OUTCOMES[event.outcome] ?? word(event.outcome)} ${BY[event.by] ?? ""}${grant}`;
      return ["Gate", h("p", {}, words, event.note ? h("span.hint", {}, ` — ${quoted(event.note)}`) : null)];
    }
    case "status":
      return ["Run", h("p", {}, word(event.status).replaceAll("_", " "), event.detail ? `: ${quoted(event.detail)}` : "")];
    default:
      return [word(event.kind), long(JSON.stringify(event), SHORT)];
  }
}

function row(event, attempts) {
  const [label, body] = content(event);
  return h(
    "div.event",
    { "data-kind": event.kind, "data-ok": event.ok === false || event.outcome === "denied" ? "no" : "yes" },
    h("div.label", {}, h("span", {}, label), h("time", { datetime: event.at ?? null }, event.at ? clock(event.at) : ""),
      attempts > 1 ? h("span.hint", {}, `run ${event.attempt}`) : null),
    h("div.body", {}, body),
  );
}

/** Events as a plain list, for a part of a trace that does not grow. */
export function eventList(events) {
  return h("ol.trace", {}, events.map((event) => h("li", {}, row(event, 1))));
}

/** The trace as a section; `take(events)` adds to it. */
export function traceView() {
  const list = h("ol.trace", { "aria-label": "What happened, in order" });
  const latest = h("button.latest", { type: "button", hidden: true, on: { click: () => jump() } }, "Show the latest");
  const count = h("span.count-words.hint");
  const element = h("section", { "aria-labelledby": "trace-title", hidden: true }, h("h2", { id: "trace-title" }, "What happened ", count), list, latest);
  let attempts = 1;
  const windowed = new Windowed(list, (event) => row(event, attempts), { estimate: 64 });

  const atEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 160;
  function jump() {
    scrollTo({ top: document.documentElement.scrollHeight });
    latest.hidden = true;
  }
  const onScroll = () => {
    if (atEnd()) latest.hidden = true;
  };
  addEventListener("scroll", onScroll, { passive: true });

  return {
    element,
    /** Add events; `live`: follow them where the person is at the end already. */
    take(events, live) {
      const fresh = windowed.length ? events.filter((event) => event.seq > windowed.at(windowed.length - 1).seq) : events;
      if (!fresh.length) return;
      const follows = live && !element.hidden && atEnd() && scrollY > 0;
      element.hidden = false;
      attempts = Math.max(attempts, ...fresh.map((event) => event.attempt ?? 1));
      if (windowed.length) windowed.append(fresh);
      else windowed.set(fresh);
      count.textContent = `${windowed.length.toLocaleString()} ${windowed.length === 1 ? "event" : "events"}`;
      if (follows) requestAnimationFrame(() => requestAnimationFrame(jump));
      else if (live && windowed.length > 20 && !atEnd()) latest.hidden = false;
    },
    get length() {
      return windowed.length;
    },
    leave() {
      removeEventListener("scroll", onScroll);
      windowed.leave();
    },
  };
}
