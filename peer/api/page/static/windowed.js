// A long list of which only the rows in sight are elements: heights are guessed, then measured. What rows show is not here.

import { h } from "./dom.js";

const OVERSCAN = 600; // pixels above and below the window that are drawn too

export class Windowed {
  #items = [];
  #heights = [];
  #tops = [0];
  #clean = 0; // tops are right up to this index
  #drawn = new Map();
  #planned = false;
  #observer;
  #listener;

  /** `list` is an ol; `render(item, index)` gives the content of one row; `estimate` pixels until one was measured. */
  constructor(list, render, { estimate = 48, near = () => {} } = {}) {
    this.list = list;
    this.render = render;
    this.estimate = estimate;
    this.near = near;
    list.classList.add("windowed");
    list.setAttribute("role", "list");
    this.#listener = () => this.plan();
    addEventListener("scroll", this.#listener, { passive: true });
    addEventListener("resize", this.#listener);
    this.#observer = new ResizeObserver((entries) => {
      for (const { target } of entries) this.#measure(Number(target.dataset.index), target);
      this.plan();
    });
    this.plan();
  }

  get length() {
    return this.#items.length;
  }

  at(index) {
    return this.#items[index];
  }

  indexOf(test) {
    return this.#items.findIndex(test);
  }

  /** Replace everything. */
  set(items) {
    this.#items = [...items];
    this.#heights = this.#items.map(() => 0);
    this.#clean = 0;
    for (const row of this.#drawn.values()) row.remove();
    this.#drawn.clear();
    this.draw();
  }

  /** Add rows at the end. */
  append(items) {
    for (const item of items) {
      this.#items.push(item);
      this.#heights.push(0);
    }
    for (const [index, row] of this.#drawn) this.#place(row, index);
    this.plan();
  }

  /** Put one row before an index. */
  insert(index, item) {
    this.#items.splice(index, 0, item);
    this.#heights.splice(index, 0, 0);
    this.#clean = Math.min(this.#clean, index);
    const moved = [...this.#drawn].filter(([at]) => at >= index).sort(([a], [b]) => b - a);
    for (const [at, row] of moved) {
      this.#drawn.delete(at);
      this.#drawn.set(at + 1, row);
      row.dataset.index = String(at + 1);
    }
    this.draw();
  }

  /** Show one row anew. */
  update(index, item) {
    this.#items[index] = item;
    const row = this.#drawn.get(index);
    if (!row) return;
    const focused = row.contains(document.activeElement);
    row.replaceChildren(this.render(item, index));
    if (focused) row.querySelector("a, button, summary")?.focus();
    this.#measure(index, row);
    this.plan();
  }

  /** Draw before the next frame. */
  plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => {
      this.#planned = false;
      if (this.list.isConnected) this.draw();
    });
  }

  draw() {
    this.#layout();
    for (let pass = 0; pass < 4; pass += 1) {
      if (!this.#pass()) break;
    }
    if (this.#items.length) {
      const bottom = this.list.getBoundingClientRect().bottom;
      if (bottom < innerHeight + 2 * OVERSCAN) this.near();
    }
  }

  leave() {
    removeEventListener("scroll", this.#listener);
    removeEventListener("resize", this.#listener);
    this.#observer.disconnect();
  }

  /** Move the focus to a row, drawing it if it is out of sight. */
  focus(index) {
    if (index < 0 || index >= this.#items.length) return;
    this.#layout();
    const top = this.list.getBoundingClientRect().top + this.#tops[index];
    if (top < 80 || top > innerHeight - 120) scrollBy(0, top - innerHeight / 2);
    this.draw();
    this.#drawn.get(index)?.querySelector("a, button")?.focus({ preventScroll: true });
  }

  #layout() {
    const count = this.#items.length;
    for (let index = this.#clean; index < count; index += 1) {
      this.#tops[index + 1] = this.#tops[index] + (this.#heights[index] || this.estimate);
    }
    this.#clean = count;
    this.#tops.length = count + 1;
    this.list.style.height = `${this.#tops[count]}px`;
  }

  #find(offset) {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#tops[middle + 1] <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Draw what is in sight as far as heights are known; say whether measuring changed them.
  #pass() {
    const above = -this.list.getBoundingClientRect().top;
    const first = this.#find(Math.max(0, above - OVERSCAN));
    const end = Math.min(this.#items.length, this.#find(above + innerHeight + OVERSCAN) + 1);
    for (const [index, row] of this.#drawn) {
      if ((index < first || index >= end) && !row.contains(document.activeElement)) {
        this.#observer.unobserve(row);
        row.remove();
        this.#drawn.delete(index);
      }
    }
    const added = [];
    for (let index = first; index < end; index += 1) {
      if (this.#drawn.has(index)) continue;
      const row = h("li", { "data-index": String(index) }, this.render(this.#items[index], index));
      this.#drawn.set(index, row);
      added.push([index, row]);
    }
    const after = [...this.#drawn.keys()].sort((a, b) => a - b);
    for (const [index, row] of added) {
      const next = after.find((each) => each > index && this.#drawn.get(each).parentNode === this.list);
      this.list.insertBefore(row, next === undefined ? null : this.#drawn.get(next));
      this.#observer.observe(row);
    }
    for (const [index, row] of this.#drawn) this.#place(row, index);
    let changed = false;
    let shift = 0;
    for (const [index, row] of added) {
      const before = this.#heights[index] || this.estimate;
      const now = row.offsetHeight;
      if (now !== this.#heights[index]) {
        this.#heights[index] = now;
        this.#clean = Math.min(this.#clean, index);
        changed ||= now !== before;
        if (this.#tops[index] + before <= above) shift += now - before;
      }
    }
    if (changed) {
      this.#layout();
      for (const [index, row] of this.#drawn) this.#place(row, index);
      if (shift) scrollBy(0, shift);
    }
    return changed;
  }

  #place(row, index) {
    row.style.transform = `translateY(${this.#tops[index] ?? 0}px)`;
    row.setAttribute("aria-setsize", String(this.#items.length));
    row.setAttribute("aria-posinset", String(index + 1));
  }

  #measure(index, row) {
    if (this.#drawn.get(index) !== row) return;
    const now = row.offsetHeight;
    if (!now || now === this.#heights[index]) return;
    this.#heights[index] = now;
    this.#clean = Math.min(this.#clean, index);
  }
}
