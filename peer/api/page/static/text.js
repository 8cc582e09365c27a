// Text of others made safe to show, as peer/dispatches/text.py does it, and values in words for people. No DOM here.

// The same characters as there; a test compares the two over all of Unicode.
const UNSAFE = "\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff" +
  "\\ufff9-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e007f}\\ud800-\\udfff";
const FLAG = "\\u{1f3f4}[\\u{e0030}-\\u{e0039}\\u{e0061}-\\u{e007a}]{3,6}\\u{e007f}";
const PATTERN = new RegExp(`${FLAG}|[${UNSAFE}]`, "gu");
const ANY = new RegExp(`[${UNSAFE}]`, "u");

function visible(found) {
  if (found.length > 2) return found; // a flag
  const code = found.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
}

/** Return `text` safe to show on lines of its own: newlines and tabs stay, everything hidden becomes visible. */
export function block(text) {
  text = String(text);
  if (!ANY.test(text)) return text;
  return text.replace(/\r\n|[\u2028\u2029]/g, "\n").replace(PATTERN, (c) => (c === "\n" || c === "\t" ? c : visible(c)));
}

/** Return `text` safe to show on one line. */
export function line(text) {
  text = String(text);
  if (!ANY.test(text)) return text;
  return text.replace(/\r\n|[\u2028\u2029]/g, " ").replace(PATTERN, (c) => ("\n\t\r".includes(c) ? " " : visible(c)));
}

/** Return the first `most` characters of a text, with … when it goes on. */
export function cut(text, most) {
  return text.length > most ? `${text.slice(0, most).trimEnd()}…` : text;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Return a time (RFC 3339) as the clock shows it today, else with its day. */
export function moment(value) {
  const at = new Date(value);
  if (Number.isNaN(at.getTime())) return "";
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return CLOCK.format(at);
  return at.getFullYear() === now.getFullYear() ? DAY.format(at) : WHOLE.format(at);
}

/** Return a time with its date. */
export function whole(value) {
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? "" : WHOLE.format(at);
}

/** Return a time of day with its seconds. */
export function clock(value) {
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? "" : SECONDS.format(at);
}

/** Return how long until a time, in words; "" when it is past. */
export function until(value) {
  const left = new Date(value).getTime() - Date.now();
  return left > 0 ? duration(left / 1000) : "";
}

/** Return seconds in words. */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** Return a number of bytes in words. */
export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1000 * 1000) return `${(size / 1000).toFixed(size < 10000 ? 1 : 0)} kB`;
  return `${(size / 1000 / 1000).toFixed(1)} MB`;
}

export const STATES = {
  queued: "On its way",
  pending: "Waiting for an answer",
  accepted: "Accepted",
  running: "Running",
  completed: "Done",
  failed: "Failed",
  declined: "Declined",
  cancelled: "Cancelled",
  expired: "Expired",
  rejected: "Refused",
};

/** Return a dispatch's state in words: what waits for me reads as an order of mine, not as theirs. */
export function stateOf(row) {
  if (row.status === "pending") return row.direction === "received" ? "Needs your decision" : "Waiting for their answer";
  return STATES[row.status] ?? line(row.status);
}

/** Return a rule of an `always` in words. */
export function rule(given) {
  const reach = { prefix: ", also with further words", folder: ", and anything below it" }[given.reach] ?? "";
  return `${line(given.tool)}: ${line(given.pattern)}${reach}`;
}
