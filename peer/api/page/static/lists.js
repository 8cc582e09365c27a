// The views Inbox, Sent and History: a heading, a filter or a search, and a list of dispatches.

import { h } from "./dom.js";
import { dispatchList } from "./rows.js";

const UNDECIDED = "pending";

function list(direction, title, words, filters) {
  return () => {
    let status = "";
    let shown;
    const place = h("div");
    const start = () => {
      shown?.leave();
      shown = dispatchList({
        path: (before, limit) =>
          `/v1/dispatches?direction=${direction}&limit=${limit}${before ? `&before=${before}` : ""}${status ? `&status=${status}` : ""}`,
        keep: (row) => row.direction === direction && (!status || row.status === status),
        empty: words(status),
      });
      place.replaceChildren(shown.element);
    };
    start();
    const buttons = filters.map(([value, text]) =>
      h("button.tab", {
        type: "button",
        "aria-pressed": String(value === status),
        on: {
          click: (event) => {
            status = value;
            for (const each of buttons) each.setAttribute("aria-pressed", String(each === event.currentTarget));
            start();
          },
        },
      }, text),
    );
    return {
      title,
      content: [h("h1", {}, title), h("div.tabs", { role: "group", "aria-label": "Show" }, buttons), place],
      ready: shown.ready,
      dispatch: (row) => shown.changed(row),
      reset: () => shown.reload(),
      leave: () => shown.leave(),
    };
  };
}

export const inbox = list(
  "received",
  "Inbox",
  (status) =>
    h(
      "div.empty",
      {},
      h("p", {}, status ? "Nothing here." : "Nothing was sent to you yet."),
      status ? null : h("p.quiet", {}, "Tasks come only from people whose invitation you accepted."),
    ),
  [["", "All"], [UNDECIDED, "Needs a decision"], ["running", "Running"], ["held", "To look at"], ["completed", "Done"]],
);

export const sent = list(
  "sent",
  "Sent",
  (status) =>
    h(
      "div.empty",
      {},
      h("p", {}, status ? "Nothing here." : "You have sent nothing yet."),
      status ? null : h("p", {}, h("a", { href: "/compose" }, "Send a task to a contact")),
    ),
  [["", "All"], ["queued", "On its way"], [UNDECIDED, "Waiting"], ["running", "Running"], ["completed", "Done"]],
);

export function history() {
  let query = new URLSearchParams(location.search).get("q") ?? "";
  let list;
  let timer = 0;
  const place = h("div");
  const start = () => {
    list?.leave();
    const wanted = query;
    list = dispatchList({
      path: (before, limit) =>
        `/v1/page/history?q=${encodeURIComponent(wanted)}&limit=${limit}${before ? `&before=${before}` : ""}`,
      keep: () => !wanted,
      both: true,
      empty: h("div.empty", {}, h("p", {}, wanted ? "Nothing was found." : "Nothing was sent or received yet.")),
    });
    place.replaceChildren(list.element);
  };
  start();
  const search = h("input", {
    type: "search",
    id: "search",
    value: query,
    autocomplete: "off",
    spellcheck: "false",
    on: {
      input: () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          query = search.value.trim();
          start();
        }, 150);
      },
    },
  });
  return {
    title: "History",
    content: [
      h("h1", {}, "History"),
      h("form.search", { role: "search", on: { submit: (event) => event.preventDefault() } },
        h("label", { for: "search" }, "Find in tasks, replies and addresses"), search),
      place,
    ],
    ready: list.ready,
    dispatch: (row) => list.changed(row),
    reset: () => list.reload(),
    leave: () => {
      clearTimeout(timer);
      list.leave();
    },
  };
}
