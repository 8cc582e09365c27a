// One tool call: its line, which the daemon says in parts (peer/dispatches/summary.py), and its arguments. Used by the
// cards that ask and by the trace.

import { h, long } from "./dom.js";
import { line, plural } from "./text.js";

/** The line itself, as nodes. */
export function headline({ verb, what, more, added, removed }) {
  return [
    verb, " ", what ? h("code.what", {}, line(what)) : null,
    typeof added === "number"
      ? [" ", h("span.lines", {},
          h("span.plus", { role: "img", "aria-label": plural(added, "line added", "lines added") }, `+${added.toLocaleString()}`), " ",
          h("span.minus", { role: "img", "aria-label": plural(removed, "line removed", "lines removed") }, `−${removed.toLocaleString()}`))]
      : null,
    more ? h("span.more", {}, more) : null,
  ];
}

/** The arguments of a call, each by its name. */
export function pairs(given) {
  return h("dl.pairs", {},
    Object.entries(given ?? {}).map(([name, value]) => [
      h("dt", {}, name),
      h("dd", {}, long(typeof value === "string" ? value : JSON.stringify(value, null, 2))),
    ]));
}
