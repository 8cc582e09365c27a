// Notifications by the page: on the desktop where the browser lets it, and a word on the page itself. Names, never text.

import { toast } from "./dom.js";
import { nameOf } from "./people.js";
import { changes, state } from "./state.js";
import { cut, line } from "./text.js";

const SAYS = {
  completed: (peer) => `${peer}’s machine has a result for you`,
  failed: (peer) => `Your dispatch to ${peer} failed`,
  declined: (peer) => `${peer} declined your dispatch`,
  rejected: (peer) => `${peer}’s machine refused your dispatch`,
};

export const permission = () => ("Notification" in window ? Notification.permission : "unsupported");

/** Whether this page shows desktop notifications, so that the daemon need not: it may, and they are wanted. */
export const notifies = () => permission() === "granted" && state.notifications === "on";

export async function askPermission() {
  if (permission() !== "default") return;
  await Notification.requestPermission();
  changes.dispatchEvent(new Event("notifications"));
}

const known = new Map();

/** Say that something happened; `href` leads to it. */
async function say(words, href, tag) {
  await state.settled; // a setting that is just being read decides already
  if (state.notifications !== "on") return;
  if (document.visibilityState === "visible" && document.hasFocus()) {
    if (location.pathname !== href) toast(words, href);
    return;
  }
  toast(words, href);
  if (!notifies()) return;
  const note = new Notification("dispatch", { body: words, tag });
  note.onclick = () => {
    window.focus();
    history.pushState(null, "", href);
    dispatchEvent(new PopStateEvent("popstate"));
  };
}

const name = (peer) => cut(line(nameOf(peer)), 80);

/** Take in a dispatch's row as it changed. */
export function onDispatch(row) {
  const before = known.get(row.dispatch_id);
  known.set(row.dispatch_id, row.status);
  if (known.size > 2000) known.delete(known.keys().next().value);
  if (before === row.status) return;
  const href = `/dispatches/${encodeURIComponent(row.dispatch_id)}`;
  if (row.direction === "received" && row.status === "pending") say(`${name(row.peer)} sent you a dispatch`, href, row.dispatch_id);
  if (row.direction === "sent" && SAYS[row.status]) say(SAYS[row.status](name(row.peer)), href, row.dispatch_id);
}

/** Take in what waits, compared with what waited before. */
export function onWaitingChanged(before, now) {
  const old = new Set(before.map((item) => item.dispatch_id + item.request_id));
  for (const item of now) {
    if (old.has(item.dispatch_id + item.request_id)) continue;
    const href = `/dispatches/${encodeURIComponent(item.dispatch_id)}`;
    if (location.pathname === "/approvals") continue;
    say(`A run for ${name(item.sender_id)} waits for your answer`, href, item.request_id);
  }
}
