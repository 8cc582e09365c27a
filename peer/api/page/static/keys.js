// Keys that lead through the page, and the dialog that lists them. Those that answer a call are in approval.js.

import { add, button, fresh, h } from "./dom.js";

const STORED = "dispatch-page-keys";
const PLACES = { i: ["/inbox", "Inbox"], w: ["/approvals", "Waiting for you"], s: ["/sent", "Sent"], c: ["/contacts", "Contacts"], h: ["/history", "History"], n: ["/compose", "New dispatch"] };
const WITHIN = 1500; // ms between g and the letter of a view

/** Whether keys without Ctrl or Alt do something here: whoever dictates text may turn them off. */
export const keysOn = () => localStorage.getItem(STORED) !== "off";
export const setKeys = (on) => (on ? localStorage.removeItem(STORED) : localStorage.setItem(STORED, "off"));

const typing = (target) => target.closest?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");

/** `go(path)` shows a view; `search()` goes to the search field. */
export function listenForKeys({ go, search, active }) {
  let gone = 0;
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (!active() || !keysOn() || typing(event.target) || document.querySelector("dialog[open]")) return;
    if (gone && event.timeStamp - gone < WITHIN && PLACES[event.key]) {
      gone = 0;
      event.preventDefault();
      go(PLACES[event.key][0]);
      return;
    }
    gone = event.key === "g" ? event.timeStamp : 0;
    if (event.key === "/") {
      event.preventDefault();
      search();
    } else if (event.key === "?") {
      event.preventDefault();
      showKeys();
    }
  });
}

const keys = (...names) => names.map((name, index) => [index ? " " : null, h("kbd", {}, name)]);

/** Show which keys there are. */
export function showKeys() {
  const id = fresh("dialog");
  const dialog = h("dialog.shortcuts", { "aria-labelledby": id });
  const close = () => {
    dialog.close();
    dialog.remove();
  };
  const group = (title, rows) => [h("h3", {}, title), h("dl", {}, rows.map(([names, words]) => h("div", {}, h("dt", {}, keys(...names)), h("dd", {}, words))))];
  add(dialog, [
    h("div.head", {}, h("h2", { id }, "Keyboard shortcuts"), button("Close", close)),
    h("div.columns", {},
      h("div", {}, group("Anywhere", [[["/"], "Search"], [["?"], "This list"], [["Esc"], "Leave the search, close a dialog"],
        ...Object.entries(PLACES).map(([key, [, title]]) => [["g", key], title])])),
      h("div", {},
        group("In a list", [[["↓"], "Next"], [["↑"], "Previous"], [["Enter"], "Open"]]),
        group("A call that waits", [[["1"], "Allow once"], [["2"], "Always allow"], [["3"], "Allow for this run"], [["4"], "Deny"], [["5"], "Decline the dispatch"]]),
        group("Changes", [[["j", "k"], "Next, previous file"], [["n", "p"], "Next, previous change"], [["f"], "Fold, unfold"]]))),
    h("p.hint", {}, "Single keys can be turned off in the settings."),
  ]);
  dialog.addEventListener("cancel", close);
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
}
