// The diff of one file as a table: line numbers, syntax colours, words that differ, folded stretches, one or two columns.
// All of it was written by a run: it is text, made safe to show row by row.

import { beside, differing, hunks, read } from "./hunks.js";
import { button, fill, h } from "./dom.js";
import { block, excerpt } from "./text.js";

const KINDS = new Set(["comment", "keyword", "string", "number", "function", "type", "name"]);
const MOST_ROWS = 1500; // that are drawn at once
const UNFOLDED = 500; // rows of an unchanged stretch that one press shows
const LONG = 2000; // characters of a row
const SIGNS = { "+": "added", "-": "removed", " ": "same" };

/**
 * Return {element, places, colour, layout} of a diff that has all of its file around each change; null for what cannot
 * be read as one. `places()`: where each change begins, to be focussed; `colour(colours)`: as the API gives them;
 * `layout(split)`: one column or two. `most`: rows that are drawn at once; `plainly`: nothing stands above a lone change.
 */
export function diffTable(diff, label, { most = MOST_ROWS, plainly = false } = {}) {
  const told = read(diff);
  if (!told) return null;
  const parts = hunks(told.rows).map((each) => ({ ...each, above: [], body: h("tbody") }));
  const changes = parts.filter((each) => each.rows.length);
  const table = h("table.diff", { "aria-label": label });
  const element = h("div", {}, told.head.map((each) => h("p.hint", {}, h("code", {}, each))), told.rows.length ? table : null);
  let cells = [];
  let colours = null;
  let split = false; // as it is drawn: what is only added or only removed needs no second column
  let limit = most;

  function draw() {
    cells = [];
    let left = limit;
    table.classList.toggle("split", split);
    table.replaceChildren();
    for (const part of parts) {
      if (left <= 0) break;
      left -= drawPart(part, left);
      table.append(part.body);
    }
    const all = told.rows.length - parts.reduce((sum, each) => sum + each.hidden.length, 0);
    if (all > limit) {
      const more = button(`Show more of the ${all.toLocaleString()} lines`, () => {
        limit += MOST_ROWS;
        draw();
      }, "plain");
      table.append(h("tbody", {}, h("tr", {}, wide(h("td.place"), more))));
    }
  }

  /** Draw one hunk with what is folded before it; return how many rows. */
  function drawPart(part, most) {
    const rows = part.rows.slice(0, most);
    fill(part.body, part.above.flatMap((each) => drawRows([each])), place(part), drawRows(rows));
    return rows.length + part.above.length;
  }

  function place(part) {
    const { length } = part.hidden;
    const first = part.rows.find((each) => each.sign !== " ");
    const more = length
      ? button(`⋯ ${length.toLocaleString()} unchanged ${length === 1 ? "line" : "lines"}`, () => {
          part.above.push(...part.hidden.splice(0, UNFOLDED));
          drawPart(part, limit);
          (part.body.querySelector(".place button, .place[tabindex]") ?? table.querySelector(".place[tabindex]"))?.focus();
        }, "plain")
      : null;
    const words = first ? `Change ${changes.indexOf(part) + 1} of ${changes.length}, line ${first.new || first.old}` : null;
    if (!more && (!words || (plainly && changes.length === 1))) return null;
    return h("tr", {}, wide(h("td.place", { tabindex: first ? "-1" : null }), more, words ? h("span", {}, words) : null));
  }

  function wide(cell, ...children) {
    cell.colSpan = split ? 6 : 4;
    return fill(cell, h("div", {}, children));
  }

  function drawRows(rows) {
    if (!split) {
      return rows.map((each) => h(`tr.${SIGNS[each.sign]}`, {}, number(each.old), number(each.new), sign(each), code(each)));
    }
    const side = (each, which) => (each ? [number(each[which], each), sign(each), code(each)] : [h("td.none"), h("td.none"), h("td.none")]);
    return beside(rows).map(([one, other]) => h("tr", {}, side(one, "old"), side(other, "new")));
  }

  const number = (value, each) => h(each ? `td.number.${SIGNS[each.sign]}` : "td.number", {}, value ? String(value) : "");
  const sign = (each) => h(split ? `td.sign.${SIGNS[each.sign]}` : "td.sign", {}, each.sign);

  function code(each) {
    const cell = h(split ? `td.code.${SIGNS[each.sign]}` : "td.code");
    cells.push([cell, each]);
    return fill(cell, content(each));
  }

  function content(each) {
    const end = each.ended ? null : h("span.hint", {}, " (no newline at the end)");
    if (each.text.length > LONG && !each.whole) {
      const more = button(`Show all ${each.text.length.toLocaleString()} characters`, () => {
        each.whole = true;
        for (const [cell, row] of cells) if (row === each) fill(cell, content(each));
      }, "plain");
      return [excerpt(each.text, { characters: LONG }), " ", more, end];
    }
    return [styled(each) ?? each.text, end];
  }

  /** The row in pieces, coloured; null where it is shown as it is: nothing known, or something in it must be made visible. */
  function styled(each) {
    const { text } = each;
    const words = differing(each);
    const runs = (each.new ? colours?.new[each.new - 1] : colours?.old[each.old - 1]) ?? [];
    const known = runs.length && runs.reduce((sum, [, length]) => sum + length, 0) === text.length;
    if ((!known && !words.length) || block(text) !== text) return null;
    const pieces = [];
    let at = 0;
    for (const [kind, length] of known ? runs : [["", text.length]]) {
      for (const end = at + length; at < end; ) {
        const word = words.find(([, to]) => to > at);
        const inside = word !== undefined && word[0] <= at;
        const stop = Math.min(end, word === undefined ? end : word[inside ? 1 : 0]);
        const part = text.slice(at, stop);
        if (block(part) !== part) return null;
        const name = `span${KINDS.has(kind) ? `.is-${kind}` : ""}${inside ? ".differs" : ""}`;
        pieces.push(name === "span" ? part : h(name, {}, part));
        at = stop;
      }
    }
    return pieces;
  }

  draw();
  return {
    element,
    places: () => [...table.querySelectorAll(".place[tabindex]")],
    colour(given) {
      colours = given;
      for (const [cell, each] of cells) fill(cell, content(each));
    },
    layout(wanted) {
      const both = ["old", "new"].every((side) => told.rows.some((each) => each[side]));
      if (split === (wanted && both)) return;
      split = wanted && both;
      draw();
    },
  };
}

/** A diff as it is, for what is none of one file. */
export function plainDiff(text) {
  const shown = excerpt(text, { characters: 40_000, lines: 400 }).split("\n");
  const kind = (row) => (/^(?:\+\+\+|---)/.test(row) ? "head" : { "+": "added", "-": "removed", "@": "place" }[row[0]] ?? "same");
  return h("pre.diff", { "aria-label": "What it changes, line by line", role: "group", tabindex: "0" },
    shown.map((row) => h(`span.${kind(row)}`, {}, `${row}\n`)));
}
