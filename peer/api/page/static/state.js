// What the whole page knows: who I am, what waits, and who wants to hear when that changes. No DOM here.

export const state = {
  me: "",
  /** Whether this machine has an identity, and so a node; before that there is the set-up alone. */
  hasIdentity: false,
  device: "",
  /** What a dispatch may hold: the limit of each field, and its optional texts as {name, heading, limit, long}. */
  limits: {},
  texts: [],
  /** Seconds that a dispatch waits to be accepted unless somebody chose another time. */
  expires: 3600,
  notifications: "on",
  /** Settles when the settings that were asked for last are known, or cannot be. */
  settled: Promise.resolve(),
  waiting: [],
};

/** Tells "notifications" when the setting, or what the browser lets this page do, may be another than before. */
export const changes = new EventTarget();

/** Take in whether the person wants notifications. */
export function setNotifications(value) {
  if (value === state.notifications) return;
  state.notifications = value;
  changes.dispatchEvent(new Event("notifications"));
}

const listeners = new Set();

/** Hear of changes of what waits. Returns how to stop. */
export function onWaiting(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Take in the calls that wait for an answer; each knows when it ends by this page's own clock. */
export function setWaiting(waiting) {
  const known = new Map(state.waiting.map((item) => [item.dispatch_id + item.request_id, item]));
  state.waiting = waiting.map((item) => {
    const before = known.get(item.dispatch_id + item.request_id);
    return { ...item, ends: before?.ends ?? performance.now() + item.expires_in * 1000 };
  });
  for (const listener of [...listeners]) listener(state.waiting);
}
