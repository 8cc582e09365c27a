// What an agent said last: the tree that the daemon read it as, in elements of a closed table, or as it was written.
// No node of it becomes markup by itself, no address in it is followed or loaded.

import { get, seg } from "./api.js";
import { h, long } from "./dom.js";
import { block } from "./text.js";

const MOST = 20_000; // characters that are shown at once as they were written
const DEEPEST = 40;
const INSIDE = { paragraph: "p", bullets: "ul", numbers: "ol", quote: "blockquote", strong: "strong", emphasis: "em", struck: "s" };
const KINDS = new Set(["comment", "keyword", "string", "number", "function", "type", "name"]);

/** Code with its colours, where they fit it and nothing in it has to be made visible. `lines`: as sandbox/changes/colours.py. */
export function coloured(text, lines) {
  if (!lines?.length || block(text) !== text) return text;
  const rows = text.split("\n");
  if (lines.length > rows.length || lines.some((runs, index) => runs.reduce((sum, [, length]) => sum + length, 0) !== rows[index].length)) return text;
  return rows.map((row, index) => {
    let at = 0;
    const pieces = (lines[index] ?? []).map(([kind, length]) => {
      const part = row.slice(at, (at += length));
      return KINDS.has(kind) && block(part) === part ? h(`span.is-${kind}`, {}, part) : part;
    });
    return [pieces, index < rows.length - 1 ? "\n" : null];
  });
}

/** What is told in an address that nobody follows. */
const address = (node) => [
  node.address ? h("span.address", {}, " (", node.address, ")") : null,
  node.label ? h("span.address", {}, ` “${node.label}”`) : null,
];

function code(node) {
  return h("figure.code", {},
    node.label ? h("figcaption.hint", {}, node.label) : null,
    h("pre", {}, coloured(node.text, node.colours)));
}

/** The elements of a tree's nodes. */
export function built(parts) {
  let level = 2; // of the heading before; no step of them is left out below the one of the card

  const all = (nodes, depth) => (nodes ?? []).map((node) => one(node, depth + 1));

  function one(node, depth) {
    if (depth > DEEPEST) return node.text ?? "";
    const inside = () => all(node.parts, depth);
    switch (node.kind) {
      case "text":
        return node.text;
      case "heading":
        level = Math.min(6, (node.number ?? 1) + 2, level + 1);
        return h(`h${level}`, {}, inside());
      case "item":
        return h("li", { value: node.number ?? null }, inside());
      case "code":
        return code(node);
      case "code_span":
        return h("code", {}, node.text);
      case "rule":
        return h("hr");
      case "break":
        return h("br");
      case "link":
        return h("span.link", {}, inside(), address(node));
      case "image":
        return h("span.link", {}, "[picture: ", node.text || "no words", address(node), "]");
      case "table":
        return h("div.wide", { tabindex: "0", role: "group", "aria-label": "A table" }, h("table", {}, (node.parts ?? []).map((row) => tableRow(row, depth + 1))));
      case "plain":
        return h("pre.prose.plain", {}, node.text);
      default:
        return INSIDE[node.kind] ? h(INSIDE[node.kind], {}, inside()) : [node.text ?? "", inside()];
    }
  }

  function tableRow(row, depth) {
    return h("tr", {}, (row.parts ?? []).map((cell) =>
      h(row.number && cell.parts?.length ? "th" : "td", { "data-align": cell.align || null }, all(cell.parts, depth + 1))));
  }

  return all(parts, 0);
}

/** A reply of a dispatch: as what it means, once that is known; as it was written where it is not, or takes a second. */
export function replyView(id, text) {
  const raw = long(text, MOST, "pre.prose");
  // Its place is kept meanwhile, so that nothing jumps, and Markdown does not flash by as signs.
  const element = h("div.reply.unread", {}, raw);
  (async () => {
    let tree = null;
    try {
      ({ reply: tree } = await get(`/v1/page/dispatches/${seg(id)}/reply`));
    } catch {
      // It stays as it was written.
    }
    element.classList.remove("unread");
    if (!tree) return;
    const read = h("div.markdown", {}, built(tree.parts));
    const turn = h("button.plain.turn", { type: "button", "aria-pressed": "false", on: { click: () => show(turn.getAttribute("aria-pressed") !== "true") } }, "Show as written");
    const show = (asWritten) => {
      turn.setAttribute("aria-pressed", String(asWritten));
      element.replaceChildren(asWritten ? raw : read, turn);
    };
    show(false);
  })();
  return element;
}
