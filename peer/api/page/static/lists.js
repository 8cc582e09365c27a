// The views Inbox, Sent and History: a heading, a filter, and a list of dispatches. What a row says is rows.js.

import { seg } from "./api.js";
import { fill, h } from "./dom.js";
import { findPeople, howMany, people, recipients } from "./people.js";
import { asksNow, dispatchList, person, waits } from "./rows.js";
import { line } from "./text.js";
import { told, waitingList } from "./waiting.js";

const UNDECIDED = "pending";

/** What to do where a list is empty: words, and buttons as [text, address, kind]. */
function emptiness(title, words, buttons = []) {
  return h("div.empty", {}, h("p", {}, title), words ? h("p.quiet", {}, words) : null,
    buttons.length ? h("div.actions", {}, buttons.map(([text, href, kind]) => h(kind ? `a.button.${kind}` : "a.button", { href }, text))) : null);
}

function tabs(filters, start) {
  let chosen = "";
  const buttons = filters.map(([value, text]) =>
    h("button.tab", {
      type: "button",
      "aria-pressed": String(value === chosen),
      on: {
        click: (event) => {
          chosen = value;
          for (const each of buttons) each.setAttribute("aria-pressed", String(each === event.currentTarget));
          start(value);
        },
      },
    }, text));
  return h("div.tabs", { role: "group", "aria-label": "Show" }, buttons);
}

function list({ direction, title, empty, filters, above = null }) {
  return () => {
    const top = above?.();
    const place = h("div");
    let shown;
    const start = (status) => {
      shown?.leave();
      // What waits is on top already, where all is shown.
      const hide = top && !status ? (row) => waits(row) || asksNow(row) : null;
      if (top) top.element.classList.toggle("aside", Boolean(status));
      shown = dispatchList({
        path: (before, limit) =>
          `/v1/dispatches?direction=${direction}&limit=${limit}${before ? `&before=${before}` : ""}${status ? `&status=${status}` : ""}`,
        keep: (row) => row.direction === direction && (!status || row.status === status),
        hide,
        empty: () => empty(status),
      });
      place.replaceChildren(shown.element);
    };
    start("");
    return {
      title,
      content: [h("h1", {}, title), top?.element ?? null, tabs(filters, start), place].filter(Boolean),
      ready: Promise.all([top?.ready, shown.ready]),
      dispatch: (row) => shown.changed(row),
      reset: () => shown.reload(),
      leave() {
        top?.leave();
        shown.leave();
      },
    };
  };
}

export const inbox = list({
  direction: "received",
  title: "Inbox",
  above: waitingList,
  filters: [["", "All"], [UNDECIDED, "Needs a decision"], ["running", "Running"], ["held", "To review"], ["completed", "Done"]],
  empty(status) {
    if (status) return emptiness("Nothing here.", "");
    if (told.dispatches.length || told.invitations.length) return h("p.quiet", {}, "Nothing else here.");
    if (!howMany())
      return emptiness("Nothing was sent to you yet.", "Tasks come only from people whose invitation you accepted. Paste an invitation that you were given, or invite somebody.", [
        ["Invite, or paste an invitation", "/invitations", "primary"],
      ]);
    return emptiness("Nothing was sent to you yet.", "Tasks come only from people whose invitation you accepted.", [
      recipients().length ? ["New dispatch", "/compose", "primary"] : ["Contacts", "/contacts", ""],
    ]);
  },
});

export const sent = list({
  direction: "sent",
  title: "Sent",
  filters: [["", "All"], ["queued", "On its way"], [UNDECIDED, "Waiting"], ["running", "Running"], ["completed", "Done"]],
  empty(status) {
    if (status) return emptiness("Nothing here.", "");
    if (!recipients().length)
      return emptiness("You have sent nothing yet.", "You can send tasks to people who have accepted your invitation.", [["Invite somebody", "/invitations", "primary"]]);
    return emptiness("You have sent nothing yet.", "Describe a task in plain words. It is signed, and waits until its recipient accepts it.", [
      ["Send a task to a contact", "/compose", "primary"],
    ]);
  },
});

export function history() {
  let query = new URLSearchParams(location.search).get("q") ?? "";
  let list;
  const head = h("h1", {}, "History");
  const found = h("div");
  const place = h("div");
  const drawPeople = () => {
    const who = findPeople(query).slice(0, 8);
    fill(found, who.length
      ? h("section", { "aria-labelledby": "people-title" }, h("h2", { id: "people-title" }, "People"),
          h("ul.rows.found-people", {}, who.map(({ peer, online }) =>
            h("li", {}, h("a.row", { href: `/contacts/${seg(peer)}` }, h("span.text", {}, person(peer)), " ", h("span.about", {}, online ? "online" : "offline"))))),
          h("h2", {}, "Tasks and replies"))
      : null);
  };
  const start = () => {
    list?.leave();
    const wanted = query;
    fill(head, wanted ? ["Found for ", h("q", {}, line(wanted))] : "History");
    drawPeople();
    list = dispatchList({
      path: (before, limit) =>
        `/v1/page/history?q=${encodeURIComponent(wanted)}&limit=${limit}${before ? `&before=${before}` : ""}`,
      keep: () => !wanted,
      both: true,
      empty: () => wanted
        ? emptiness("Nothing was found.", "Words of tasks and replies, people’s names and addresses, and beginnings of ids are searched.")
        : emptiness("Nothing was sent or received yet.", "", [["New dispatch", "/compose", "primary"]]),
    });
    place.replaceChildren(list.element);
  };
  start();
  people.addEventListener("changed", drawPeople);
  return {
    title: query ? `“${line(query)}”` : "History",
    content: [head, found, place],
    ready: list.ready,
    dispatch: (row) => list.changed(row),
    reset: () => list.reload(),
    /** Search for other words. */
    search(words) {
      if (words === query) return;
      query = words;
      start();
    },
    leave() {
      people.removeEventListener("changed", drawPeople);
      list.leave();
    },
  };
}
