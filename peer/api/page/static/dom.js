// Building the page: elements with text nodes. Nothing here, or anywhere, turns a string into markup.

import { block, excerpt, line } from "./text.js";

const LINK = /^(?:\/(?!\/)|#)/;

/**
 * Make an element. `name` is a tag with classes (`p.quiet`); `given` holds attributes, `on` for listeners, and
 * properties such as `value`; children are nodes, strings (made safe to show) or lists of them; null is left out.
 */
export function h(name, given = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") {
      for (const [kind, listener] of Object.entries(value)) element.addEventListener(kind, listener);
    } else if (key === "value" || key === "checked" || key === "disabled" || key === "indeterminate") {
      element[key] = value;
    } else if (key === "href") {
      // Only this page's own addresses: no word of a sender can become a link.
      if (!LINK.test(value)) throw new Error("a link that leads elsewhere");
      element.setAttribute("href", value);
    } else if (/^(?:id|type|name|for|role|title|rows|cols|min|max|step|maxlength|placeholder|tabindex|autocomplete|list|multiple|open|lang|datetime|scope|hidden|required|spellcheck|inputmode|aria-[a-z]+|data-[a-z-]+)$/.test(key)) {
      element.setAttribute(key, value === true ? "" : line(value));
    } else {
      throw new Error(`no such attribute here: ${key}`);
    }
  }
  add(element, children);
  return element;
}

/** Append children as `h` does. */
export function add(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(block(child)));
  }
  return element;
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

export const byId = (id) => document.getElementById(id);

let titled = "";
let waiting = "";

/** Title the tab. */
export function setTitle(words) {
  titled = words;
  drawTitle();
}

/** Show in front of the tab's title how much waits: "3", or "" for nothing. */
export function setTitleCount(count) {
  waiting = count;
  drawTitle();
}

function drawTitle() {
  const title = `${waiting ? `(${waiting}) ` : ""}${line(titled)} · dispatch`;
  if (document.title !== title) document.title = title; // a screen reader may read out each change
}

let last = 0;

/** Return an id that no other element has. */
export function fresh(prefix) {
  last += 1;
  return `${prefix}-${last}`;
}

/** A label with its control, and a hint that is read with it. */
export function field(label, control, hint = "") {
  const id = control.id || (control.id = fresh("field"));
  const described = hint ? h("p.hint", { id: `${id}-hint` }, hint) : null;
  if (described) control.setAttribute("aria-describedby", described.id);
  return h("div.field", {}, h("label", { for: id }, label), described, control);
}

/** A choice among several: a radio button or check box with what it means. */
export function choice(type, name, value, title, explains = "", given = {}) {
  const id = fresh("choice");
  return h(
    "div.choice",
    {},
    h("input", { type, name, value, id, "aria-describedby": explains ? `${id}-hint` : null, ...given }),
    h("div", {}, h("label", { for: id }, title), explains ? h("p.hint", { id: `${id}-hint` }, explains) : null),
  );
}

/** A button. */
export function button(text, click, kind = "") {
  return h(kind ? `button.${kind}` : "button", { type: "button", on: { click } }, text);
}

/** Words of ours in which commands stand in backticks: those become code. */
export function withCode(words) {
  return String(words).split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** What went wrong and what helps, read aloud. */
export function problem(error) {
  // Code 0: nobody answers, which the banner says for all of the page (app.js).
  return h(
    error.code === 0 ? "div.problem.unanswered" : "div.problem",
    { role: "alert" },
    h("p", {}, capital(error.message || String(error))),
    error.fix ? h("p.hint", {}, "What helps: ", withCode(error.fix)) : null,
    error.code === 0 ? h("p.meanwhile", {}, "Not available until it is back.") : null,
  );
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A text that may be long: whole up to `most` characters and 40 lines, else its head and tail and a button for the rest. */
export function long(text, most = 4000, tag = "pre") {
  const shown = excerpt(text, { characters: most });
  const element = h(tag, {}, shown);
  if (shown === block(text)) return element;
  const more = button(`Show all of it (${text.length.toLocaleString()} characters)`, () => {
    fill(element, text);
    more.remove();
  }, "plain");
  return h("div.long", {}, element, more);
}

/** Ask yes or no in a dialog; resolve to whether it was confirmed. */
export function confirm(title, text, yes, kind = "danger") {
  return new Promise((resolve) => {
    const id = fresh("dialog");
    const dialog = h("dialog", { "aria-labelledby": id });
    const close = (answer) => () => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    add(dialog, [
      h("h2", { id }, title),
      h("p", {}, text),
      h("div.actions", {}, button("Cancel", close(false)), button(yes, close(true), kind)),
    ]);
    dialog.addEventListener("cancel", close(false));
    document.body.append(dialog);
    dialog.showModal();
  });
}

const TOASTS = 3; // at once: the oldest makes room

/** Say something for a moment, and to a screen reader. What is said of the same place before goes. */
export function toast(text, href = null) {
  const made = h("div.toast", { "data-href": href }, href ? h("a", { href }, text) : h("span", {}, text),
    h("button", { type: "button", "aria-label": "Dismiss", on: { click: () => made.remove() } }, "×"));
  const shown = [...byId("toasts").children];
  for (const each of shown) if (href && each.dataset.href === href) each.remove();
  if (shown.length >= TOASTS) shown[0].remove();
  byId("toasts").append(made);
  setTimeout(() => made.remove(), 8000);
}

/** While `work` runs, a button is not pressed twice; what goes wrong is shown in `place`. */
export async function busy(pressed, place, work) {
  const buttons = pressed.closest("form, .card, section")?.querySelectorAll("button") ?? [pressed];
  const before = [...buttons].map((each) => each.disabled);
  buttons.forEach((each) => (each.disabled = true));
  fill(place);
  try {
    return await work();
  } catch (error) {
    fill(place, problem(error));
    return undefined;
  } finally {
    buttons.forEach((each, index) => (each.disabled = before[index]));
  }
}
