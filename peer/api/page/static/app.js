// Where the page begins: signing in, which view an address means, and passing on what the live stream tells.

import { get, key, session, signIn } from "./api.js";
import { byId, fill, h, problem, setTitle, setTitleCount } from "./dom.js";
import { Live } from "./live.js";
import { compose } from "./compose.js";
import { contact, contacts } from "./contacts.js";
import { dispatch } from "./dispatch.js";
import { health } from "./health.js";
import { invitations } from "./invitations.js";
import { listenForKeys, showKeys } from "./keys.js";
import { history as historyView, inbox, sent } from "./lists.js";
import { notifies, onDispatch, onWaitingChanged } from "./notify.js";
import { readPeople } from "./people.js";
import { searchField } from "./search.js";
import { settings } from "./settings.js";
import { readSetup, setup, viewChanged } from "./setup.js";
import { changes, onWaiting, setNotifications, setWaiting, state } from "./state.js";
import { line } from "./text.js";
import { concerns, onTold, readWaiting, showCounts, waiting } from "./waiting.js";

const VIEWS = [
  [/^\/(?:inbox)?$/, "inbox", inbox],
  [/^\/approvals$/, "approvals", waiting],
  [/^\/sent$/, "sent", sent],
  [/^\/contacts$/, "contacts", contacts],
  [/^\/contacts\/(?<peer>[^/]+)$/, "contacts", contact],
  [/^\/invitations$/, "invitations", invitations],
  [/^\/compose$/, "compose", compose],
  [/^\/history$/, "history", historyView],
  [/^\/health$/, "health", health],
  [/^\/settings$/, "settings", settings],
  [/^\/setup$/, "setup", setup],
  [/^\/dispatches\/(?<id>[^/]+)$/, "", dispatch],
];
const OPENED = ["reset", "dispatch", "approvals", "trust", "invitations", "settings", "setup", "trace"];

const KNOWN = "dispatch-page-known"; // in this browser's storage, once this machine was seen with an identity
const main = byId("main");
const live = new Live(notifies);
let view = null;
let signedIn = false;

function show({ focus = true } = {}) {
  // Before this machine has an identity there is nothing but its set-up.
  if (!state.hasIdentity && location.pathname !== "/setup") history.replaceState(null, "", "/setup");
  const found = VIEWS.map(([pattern, name, make]) => [pattern.exec(location.pathname), name, make]).find(([match]) => match);
  view?.leave();
  showMore(false);
  main.removeAttribute("aria-busy");
  for (const link of document.querySelectorAll("#nav a[data-view]")) {
    if (found && link.dataset.view === found[1]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!found) {
    view = null;
    setTitle("Page not found");
    fill(main, h("h1", {}, "Page not found"), h("p", {}, h("a", { href: "/inbox" }, "Go to the inbox")));
    return;
  }
  const given = Object.fromEntries(Object.entries(found[0].groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]));
  view = found[2]({ ...given, go });
  setTitle(view.title);
  main.replaceChildren(...view.content);
  settle(view);
  scrollTo(0, 0);
  if (focus) main.focus();
  live.follow(view.follow ?? "");
  field.settle();
  viewChanged();
}

/** Say to a screen reader that the view which is shown is not all there yet, until it is. */
async function settle(shown) {
  main.setAttribute("aria-busy", "true");
  try {
    await shown.ready;
  } finally {
    if (view === shown) main.removeAttribute("aria-busy");
  }
}

/** Show another view, as following a link does. */
function go(path, { focus = true } = {}) {
  history.pushState(null, "", path);
  show({ focus });
}

const field = searchField({ view: () => view, go });
listenForKeys({ go, search: () => field.focus(), active: () => signedIn && state.hasIdentity });
byId("keys").addEventListener("click", showKeys);

/** On a phone: the views that have no place in the bar. */
function showMore(open) {
  byId("nav").classList.toggle("opened", open);
  byId("more").setAttribute("aria-expanded", String(open));
}
byId("more").addEventListener("click", () => showMore(byId("more").getAttribute("aria-expanded") !== "true"));
byId("nav").addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || byId("more").getAttribute("aria-expanded") !== "true") return;
  showMore(false);
  byId("more").focus();
});
document.addEventListener("click", (event) => event.target.closest("#nav") || showMore(false));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || link.hasAttribute("download")) return;
  const href = link.getAttribute("href");
  if (!href.startsWith("/") || !signedIn) return;
  event.preventDefault();
  go(href);
});
addEventListener("popstate", () => signedIn && show());

// A file that is dropped beside its place must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

let counting = 0;
function countSoon() {
  clearTimeout(counting);
  // What goes wrong is said where it matters: by the view that needs it, or by the banner.
  counting = setTimeout(() => readWaiting().catch(() => {}), 300);
}
onTold(showCounts);
onWaiting(showCounts);

function banner(words, kind = "care") {
  const place = byId("banner");
  place.hidden = !words;
  place.dataset.kind = kind;
  fill(place, words);
}

let heardOfCalls = false;
for (const kind of OPENED) {
  live.addEventListener(kind, ({ detail }) => {
    if (kind === "approvals") {
      const before = state.waiting;
      setWaiting(detail.waiting);
      // What waited before the page was opened is on it, and no news.
      if (heardOfCalls) onWaitingChanged(before, state.waiting);
      heardOfCalls = true;
      return;
    }
    if (kind === "dispatch") onDispatch(detail);
    if (kind === "settings" || kind === "reset") readSettings().then(becomeNode, () => {});
    if (kind === "trust" || kind === "reset") readPeople();
    if (kind === "setup" || kind === "settings" || kind === "reset") readSetup().catch(() => {});
    if (state.hasIdentity && (kind === "dispatch" ? concerns(detail) : ["reset", "trust", "invitations"].includes(kind))) countSoon();
    view?.[kind]?.(detail);
  });
}
changes.addEventListener("notifications", () => live.report());
live.addEventListener("online", ({ detail }) => {
  const away = state.hasIdentity
    ? ["The daemon on this machine does not answer. If it has stopped, start it: ", h("code", {}, "dispatch-daemon"), ". This page continues by itself when it is back."]
    : ["The daemon is starting. This page continues by itself."];
  document.body.classList.toggle("away", !detail);
  banner(detail ? "" : away);
});
document.addEventListener("visibilitychange", () => {
  if (signedIn && document.visibilityState === "visible" && !live.online) live.restart();
});

/** Read who I am and what is set. What is said on the desktop meanwhile waits for it. */
function readSettings() {
  const told = get("/v1/page/session").then((who) => {
    state.me = who.user_id;
    state.device = who.device_name;
    state.hasIdentity = who.has_identity;
    if (who.has_identity) localStorage.setItem(KNOWN, "1");
    else localStorage.removeItem(KNOWN);
    frame();
    for (const name of ["limits", "texts", "expires"]) state[name] = who[name];
    if (state.settled === settled) setNotifications(who.notifications); // else it was asked again meanwhile
    fill(byId("who"), h("span", {}, line(who.user_id)), h("span.hint", {}, line(who.device_name)));
  });
  const settled = told.catch(() => {}); // who needs it says so; else what was known holds
  state.settled = settled;
  return told;
}

/** Show of the frame what there is: before an identity there is nothing to search and nowhere to go. */
function frame() {
  const bare = !signedIn || !state.hasIdentity;
  for (const id of ["nav", "search-form", "keys"]) byId(id).hidden = bare;
  document.body.classList.toggle("bare", bare);
}

/** This machine has signed in while the page was open: go on with all of it. */
let before = true;
function becomeNode() {
  const began = !before && state.hasIdentity;
  before = state.hasIdentity;
  if (!began) return;
  readPeople();
  countSoon();
  if (signedIn) show({ focus: false });
}

function signedOut() {
  signedIn = false;
  live.stop();
  view?.leave();
  view = null;
  main.removeAttribute("aria-busy");
  key.drop();
  localStorage.removeItem(KNOWN);
  banner("");
  frame();
  byId("needs").hidden = true;
  fill(byId("who"));
  setTitleCount("");
  setTitle("Sign in");
  fill(main, h("div.signin", {},
    h("h1", {}, "Sign in"),
    h("p", {}, "Only you may see this page, so it is opened from your terminal:"),
    h("pre", {}, "dispatch open"),
    h("p.quiet", {}, "It opens this page signed in. If the daemon is not running, start it first: ", h("code", {}, "dispatch-daemon"), "."),
    h("p.quiet", {}, "Nothing is set up yet? ", h("code", {}, "dispatch-daemon"), ", then ", h("code", {}, "dispatch open"), ".")));
}
session.ended = signedOut;

async function start() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  let refused = null;
  if (code) {
    try {
      await signIn(code);
    } catch (error) {
      refused = error;
    }
  }
  if (!key.get()) {
    signedOut();
    if (refused) main.append(problem(refused));
    return;
  }
  // The first view asks for what it shows at once, where it may; who I am comes beside it.
  signedIn = true;
  state.hasIdentity = true;
  const asked = readSettings();
  const needed = !localStorage.getItem(KNOWN) || ["/compose", "/setup", "/settings"].includes(location.pathname);
  try {
    if (needed) await asked;
    else frame();
    show({ focus: false });
    await asked;
    before = state.hasIdentity;
    if (!state.hasIdentity && !needed) show({ focus: false });
  } catch (error) {
    if (signedIn) {
      // Not there now: it may come back.
      fill(main, h("h1", {}, "The daemon does not answer"), problem(error));
      setTimeout(() => location.reload(), 2000);
    }
  }
}

// The address of `dispatch open`, followed where the page is open already, changes nothing but the fragment.
addEventListener("hashchange", () => {
  if (new URLSearchParams(location.hash.slice(1)).has("code")) location.reload();
});

start();
