// Text of others made safe to show, as peer/dispatches/text.py does it, and values in words for people. No DOM here.

// The same patterns as there; a test compares the two over all of Unicode, and on runs and neighbours.
const BEYOND_ASCII =
  "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u2800\\u3000" +
  "\\u3164\\ud800-\\udfff\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffc" +
  "\\u{13441}\\u{13442}\\u{16fe4}\\u{1bca0}-\\u{1bca3}\\u{1d159}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";
const HIDDEN = `\\u0000-\\u001f\\u007f-\\u00a0${BEYOND_ASCII}`;
const JOINERS = "\\u200c\\u200d";
const SELECTORS = "\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}";
const SEEN = `[^\\u0000-\\u00a0${BEYOND_ASCII}]`;
const ORDINARY =
  "\\u{1f3f4}[\\u{e0030}-\\u{e0039}\\u{e0061}-\\u{e007a}]{3,6}\\u{e007f}" +
  "|[0-9#*]\\ufe0f\\u20e3" +
  `|(?<=${SEEN})[${SELECTORS}][${JOINERS}](?=${SEEN})` +
  `|(?<=${SEEN})(?:[${SELECTORS}]|[${JOINERS}](?=${SEEN}))`;
const PATTERN = new RegExp(`(${ORDINARY})|(\\r\\n|[${HIDDEN}])\\2*`, "gu");
const ANY = new RegExp(`[${HIDDEN}]| {65}`, "u");
const REPEATED = 4; // as many of one hidden character are shown as one and a count
const BLANKS = /[ \t]{65,}/g;
const EMPTY_LINES = /\n(?:[ \t]*\n){9,}/g;

function picture(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
}

function visible(found, one) {
  const shown = [...one].map(picture).join("");
  const count = found.length / one.length;
  return count >= REPEATED ? `${shown}×${count}` : shown.repeat(count);
}

const foldedBlanks = (found) => ` ⟨${found.length} blanks⟩ `;
const foldedLines = (found) => `\n⟨${found.split("\n").length - 2} empty lines⟩\n`;

/** Return `text` safe to show on lines of its own: newlines and tabs stay, everything hidden becomes visible. */
export function block(text) {
  text = String(text);
  if (!ANY.test(text)) return text;
  return text
    .replace(PATTERN, (found, ordinary, one) => {
      if (ordinary || one === "\n" || one === "\t") return found;
      return one === "\r\n" ? found.replaceAll("\r\n", "\n") : visible(found, one);
    })
    .replace(BLANKS, foldedBlanks)
    .replace(EMPTY_LINES, foldedLines);
}

/** A name or word of theirs as it is where it has the plain form of one, else quoted; "" for none. */
export function word(text) {
  const plain = String(text ?? "").trim();
  if (/^[A-Za-z0-9]([A-Za-z0-9_.:/*@+-]{0,126}[A-Za-z0-9*])?$/.test(plain)) return plain;
  return plain ? quoted(cut(plain, 80)) : "";
}

/** A text of somebody else inside a sentence of ours, as in peer/dispatches/quoting.py. */
export function quoted(text) {
  return `“${line(String(text).trim().replace(/[“”„‟]/g, '"'))}”`;
}

/** Return `text` safe to show on one line. */
export function line(text) {
  text = String(text);
  if (!ANY.test(text)) return text;
  return text.replace(PATTERN, (found, ordinary, one) => ordinary ?? visible(found, one)).replace(BLANKS, foldedBlanks);
}

/** Return `block(text)`; of one that is longer its head and tail, with a line between them that says how much is left out. */
export function excerpt(text, { characters = 4000, lines = 40 } = {}) {
  const shown = block(text);
  const rows = shown.split("\n");
  if (shown.length <= characters && rows.length <= lines) return shown;
  const whole = (part) => part.replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, ""); // no half of a character
  const head = whole(rows.slice(0, Math.floor((lines * 3) / 4)).join("\n").slice(0, Math.floor((characters * 3) / 4)));
  const tail = whole(rows.slice(-Math.floor(lines / 4)).join("\n").slice(-Math.floor(characters / 4)));
  if (head.length + tail.length >= shown.length) return shown;
  const between = shown.slice(head.length, shown.length - tail.length);
  const ends = between.split("\n").length - 1;
  const leftOut = `${between.length.toLocaleString("en")} characters${ends ? ` in ${(ends + 1).toLocaleString("en")} lines` : ""}`;
  return `${head}\n⟨${leftOut} left out here⟩\n${tail}`;
}

/** Return `line(text)`; of one that is longer its head and tail, with how much is left out between them. */
export function lineExcerpt(text, characters = 1000) {
  const shown = line(text);
  const head = Math.floor((characters * 3) / 4);
  const tail = Math.floor(characters / 4);
  if (shown.length <= characters) return shown;
  return `${shown.slice(0, head)} ⟨${(shown.length - head - tail).toLocaleString("en")} characters left out here⟩ ${shown.slice(-tail)}`;
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

/** Return what something cost, in dollars. */
export const cost = (usd) => (usd < 0.01 ? "under $0.01" : `$${usd.toFixed(2)}`);

/** Return a number of things in words. */
export const plural = (count, one, many) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

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
  held: "Waits for you",
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

/** Return a rule of an `always` in words, spelled as the command line spells it. */
export function rule(given) {
  const reach = { prefix: ", or with further words", folder: ", or anything below it" }[given.reach] ?? "";
  const own = given.tool !== "Bash" && /^\$WORKSPACE\/(.+)$/.exec(given.pattern); // how rules spell the run's own folder
  return own
    ? `${line(given.tool)}(${lineExcerpt(own[1])})${reach}, in the run’s own folder`
    : `${line(given.tool)}(${lineExcerpt(given.pattern)})${reach}`;
}
