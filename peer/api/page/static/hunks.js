// A unified diff as rows: what belongs beside what, which words differ, which unchanged stretches are folded. No DOM here.

const NO_NEWLINE = "\\ No newline at end of file";
const AROUND = 3; // unchanged lines that are shown beside a change
const FOLDED = 4; // fewer unchanged lines than this are not worth a fold
const MOST_WORDS = 160; // of one line; beyond it only what surrounds the difference is looked for
const ALIKE = 0.3; // of a line that must have stayed for its words to be compared

/**
 * Read a diff of one file: {head: [line], rows: [{sign, text, old, new, ended, mate}]}; null for what is none.
 * `sign` is "+", "-" or " "; `old` and `new` are line numbers, 0 for none; `mate` is the row that a changed one replaces
 * or is replaced by; `ended` is false for a last line without a newline, `apart` is true
 * where lines of the file are missing before it. Rows are counted, never guessed by their looks.
 */
export function read(diff) {
  const lines = diff.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const head = [];
  const rows = [];
  let at = 0;
  while (at < lines.length && !lines[at].startsWith("@@ ")) head.push(lines[at++]);
  while (at < lines.length) {
    const range = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@$/.exec(lines[at++]);
    if (!range) return null;
    const [, a, b = "1", c, d = "1"] = range;
    let [old, new_, before, after] = [Number(a), Number(c), Number(b), Number(d)];
    const begins = rows.length;
    while (before || after || lines[at] === NO_NEWLINE) {
      const line = lines[at++];
      const sign = line?.[0];
      if (line === NO_NEWLINE && rows.length) rows.at(-1).ended = false;
      else if (sign === " " && before && after) {
        rows.push(row(sign, line, old++, new_++));
        before -= 1;
        after -= 1;
      } else if (sign === "-" && before) {
        rows.push(row(sign, line, old++, 0));
        before -= 1;
      } else if (sign === "+" && after) {
        rows.push(row(sign, line, 0, new_++));
        after -= 1;
      } else return null;
    }
    if (begins && rows[begins]) rows[begins].apart = true;
  }
  if (rows.length && rows.every((each) => each.text.endsWith("\r"))) for (const each of rows) each.text = each.text.slice(0, -1);
  for (const [removed, added] of replaced(rows)) {
    for (let index = 0; index < Math.min(removed.length, added.length); index += 1) {
      removed[index].mate = added[index];
      added[index].mate = removed[index];
    }
  }
  return { head: head.filter((each) => !/^(?:---|\+\+\+) /.test(each)), rows };
}

const row = (sign, line, old, new_) => ({ sign, text: line.slice(1), old, new: new_, ended: true, apart: false, mate: null });

/** Yield the pairs of removed and added rows that stand together. */
function* replaced(rows) {
  let removed = [];
  let added = [];
  for (const each of [...rows, { sign: " " }]) {
    if (each.sign === "+") added.push(each);
    else if (each.sign === "-" && !added.length) removed.push(each);
    else {
      if (removed.length && added.length) yield [removed, added];
      removed = each.sign === "-" ? [each] : [];
      added = [];
    }
  }
}

/** Return the hunks of rows that follow each other: [{hidden: [row], rows: [row]}]; of the last `rows` may be empty. */
export function hunks(rows) {
  const near = new Uint8Array(rows.length);
  rows.forEach((each, index) => {
    if (each.sign !== " ") near.fill(1, Math.max(0, index - AROUND), index + AROUND + 1);
  });
  const found = [];
  let now = { hidden: [], rows: [] };
  for (let index = 0; index < rows.length; ) {
    let end = index;
    while (end < rows.length && near[end] === near[index] && !(end > index && rows[end].apart)) end += 1;
    const part = rows.slice(index, end);
    if (rows[index].apart && now.rows.length) {
      found.push(now);
      now = { hidden: [], rows: [] };
    }
    if (near[index] || part.length < FOLDED) now.rows.push(...part);
    else {
      if (now.rows.length) found.push(now);
      now = { hidden: part, rows: [] };
    }
    index = end;
  }
  if (now.rows.length || now.hidden.length) found.push(now);
  return found;
}

/** Return the rows in pairs for two columns: [left, right], null for nothing there. */
export function beside(rows) {
  const pairs = [];
  const taken = new Set();
  for (const each of rows) {
    if (each.sign === " ") pairs.push([each, each]);
    else if (each.sign === "-") {
      pairs.push([each, each.mate]);
      if (each.mate) taken.add(each.mate);
    } else if (!taken.has(each)) pairs.push([null, each]);
  }
  return pairs;
}

/** Return the stretches of a changed row that its mate does not have: [[from, to]]; none where all of it differs. */
export function differing(given) {
  if (!given.mate) return [];
  given.differs ??= given.sign === "-" ? compared(given.text, given.mate.text)[0] : compared(given.mate.text, given.text)[1];
  return given.differs;
}

const words = (text) => text.match(/[\p{L}\p{N}_]+|\s+|[^]/gu) ?? [];

function compared(old, new_) {
  const [a, b] = [words(old), words(new_)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const inner = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  const stays = inner[0].length <= MOST_WORDS && inner[1].length <= MOST_WORDS ? common(...inner) : [[], []];
  const same = (list, kept) => list.map((_, index) => index < start || index >= list.length - end || kept.includes(index - start));
  const [inA, inB] = [same(a, stays[0]), same(b, stays[1])];
  const letters = (list, flags) => list.reduce((sum, word, index) => sum + (flags[index] && word.trim() ? word.length : 0), 0);
  const all = Math.max(letters(a, a.map(() => true)), letters(b, b.map(() => true)));
  if (letters(a, inA) < ALIKE * all) return [[], []];
  return [stretches(a, inA), stretches(b, inB)];
}

/** The longest common subsequence of two short lists: the indices in each. */
function common(a, b) {
  const width = b.length + 1;
  const length = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      length[i * width + j] = a[i] === b[j] ? length[(i + 1) * width + j + 1] + 1 : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  const [inA, inB] = [[], []];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) {
      inA.push(i++);
      inB.push(j++);
    } else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return [inA, inB];
}

function stretches(list, same) {
  const found = [];
  let at = 0;
  list.forEach((word, index) => {
    if (!same[index]) {
      if (found.at(-1)?.[1] === at) found.at(-1)[1] = at + word.length;
      else found.push([at, at + word.length]);
    }
    at += word.length;
  });
  return found;
}
