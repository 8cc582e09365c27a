// One tool call in words: what it does in one line, and its arguments. Used by the cards that ask and by the trace.

import { h, long } from "./dom.js";
import { counts } from "./hunks.js";
import { cut, line, plural } from "./text.js";

const WORKSPACE = "/dispatch/";
const LINE = 90; // characters of a command that stand in the line itself

/** A path as a person names it: from the run's folder on, or as it is. */
export function place(path, folder) {
  const given = String(path ?? "");
  if (folder && given === folder) return folder.slice(folder.lastIndexOf("/") + 1);
  if (folder && given.startsWith(`${folder}/`)) return given.slice(folder.length + 1);
  return given.startsWith(WORKSPACE) ? given.slice(WORKSPACE.length) : given;
}

const text = (value) => (typeof value === "string" ? value : "");

function lines(content) {
  if (!content) return "empty";
  return plural(content.replace(/\n$/, "").split("\n").length, "line", "lines");
}

/**
 * What a call does: {verb, what, more, changes, whole}. `what` is a text of the agent's, `changes` {added, removed} of a
 * diff; `whole`: nothing of its arguments is left to be shown. `folder`: where it runs.
 */
export function inWords({ tool, input, diff }, folder = "") {
  const given = input && typeof input === "object" ? input : {};
  const only = (...names) => Object.keys(given).every((name) => names.includes(name));
  const path = () => place(text(given.file_path) || text(given.path), folder);
  const within = given.path && path() !== "." ? `in ${line(path())}` : "";
  const known = diff ? counts(diff) : null;
  switch (tool) {
    case "Read": {
      const from = Number(given.offset) || 0;
      const part = given.limit ? `lines ${from || 1} to ${(from || 1) + Number(given.limit) - 1}` : from ? `from line ${from}` : "";
      return { verb: "Read", what: path(), more: part, whole: only("file_path", "offset", "limit") };
    }
    case "Glob":
      return { verb: "Find files", what: place(given.pattern, folder), more: within, whole: only("pattern", "path") };
    case "Grep":
      return { verb: "Search for", what: text(given.pattern), more: within, whole: only("pattern", "path") };
    case "Edit":
      return { verb: "Change", what: path(), changes: known, whole: Boolean(known) };
    case "Write": {
      const fresh = !known || (!known.removed && !known.kept);
      if (fresh) return { verb: "Write", what: path(), more: lines(text(given.content)), whole: Boolean(known) };
      return { verb: "Rewrite", what: path(), changes: known, whole: true };
    }
    case "Bash": {
      const command = text(given.command);
      const first = command.split("\n").find((each) => each.trim()) ?? "";
      const rest = command.trim().split("\n").length - 1;
      const fits = !rest && line(first).length <= LINE;
      return {
        verb: "Run", what: cut(first.trim(), LINE), more: rest ? `and ${plural(rest, "more line", "more lines")}` : "",
        whole: fits && only("command", "description", "timeout"), command: fits ? "" : command,
      };
    }
    case "Agent":
    case "Task":
      return { verb: "Start a helper", what: text(given.description), whole: false };
    default: {
      const [, server, name] = /^mcp__(.+?)__(.+)$/.exec(tool ?? "") ?? [];
      return server ? { verb: `${line(server)}:`, what: name, whole: !Object.keys(given).length } : { verb: "Use", what: String(tool ?? "a tool"), whole: false };
    }
  }
}

/** The line itself, as nodes. */
export function headline(words) {
  const { added, removed } = words.changes ?? {};
  return [
    words.verb, " ", words.what ? h("code.what", {}, line(words.what)) : null,
    words.changes
      ? [" ", h("span.lines", {},
          h("span.plus", { role: "img", "aria-label": plural(added, "line added", "lines added") }, `+${added.toLocaleString()}`), " ",
          h("span.minus", { role: "img", "aria-label": plural(removed, "line removed", "lines removed") }, `−${removed.toLocaleString()}`))]
      : null,
    words.more ? h("span.more", {}, words.verb === "Write" ? ", " : " ", line(words.more)) : null,
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
