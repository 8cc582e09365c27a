// The one search field: from every view it leads to what was found, while it is typed. The list itself is lists.js.

import { byId } from "./dom.js";

const PAUSE = 150; // ms without a key until it is searched

/** `view()` is what is shown, `go(path, {replace})` shows another. */
export function searchField({ view, go }) {
  const input = byId("search");
  let timer = 0;
  let from = null; // where the person was before they searched

  function search() {
    clearTimeout(timer);
    const words = input.value.trim();
    const path = words ? `/history?q=${encodeURIComponent(words)}` : "/history";
    if (view()?.search && location.pathname === "/history") {
      if (location.pathname + location.search !== path) history.replaceState(null, "", path);
      view().search(words);
    } else if (words) {
      from = location.pathname + location.search;
      go(path, { focus: false });
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, PAUSE);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") {
      const first = document.querySelector("main a.row");
      if (!first) return;
      event.preventDefault();
      first.focus();
    } else if (event.key === "Escape") {
      event.preventDefault();
      input.value = "";
      if (from && location.pathname === "/history") go(from);
      else input.blur();
      from = null;
    }
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  return {
    focus() {
      input.focus();
      input.select();
    },
    /** Show the words that the address has; those of no search are gone. */
    settle() {
      if (document.activeElement === input) return;
      clearTimeout(timer);
      input.value = location.pathname === "/history" ? new URLSearchParams(location.search).get("q") ?? "" : "";
    },
  };
}
