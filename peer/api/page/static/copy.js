// Text to be copied: an address to give away, a command for a terminal.

import { button, h, withCode } from "./dom.js";

/** A text with a button that copies it; where the browser does not let the page, it is selected. */
export function copyable(text, label = "To copy") {
  const shown = h("code.copy", { tabindex: "0", role: "group", "aria-label": label }, text);
  return h("div.copyable", {}, shown, button("Copy", async (event) => {
    const pressed = event.currentTarget;
    try {
      await navigator.clipboard.writeText(text);
      pressed.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(shown);
    }
  }));
}

/** A fix: its command to copy if it is nothing but one, else its words. */
export function fix(words) {
  const alone = /^`([^`]+)`$/.exec(words);
  return alone ? copyable(alone[1], "Command for a terminal") : h("p.hint", {}, withCode(words));
}
