// What the whole page knows of contacts: what each is called here, and whether they can be reached now. No DOM here.

import { get } from "./api.js";

const known = new Map();
let shown = "";

/** Tells "changed" when a name, or who is online, is another than before. */
export const people = new EventTarget();

/** What somebody is called here: the alias that their person gave them, else their address. */
export const nameOf = (peer) => known.get(peer)?.alias || peer;

/** Whether somebody's machine can be reached now; undefined for no contact. */
export const isOnline = (peer) => known.get(peer)?.online;

/** The contacts that a search for these words finds, as {peer, alias, online}. */
export function findPeople(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return [];
  return [...known.values()].filter(({ peer, alias }) => {
    const name = `${alias} ${peer}`.toLowerCase();
    return wanted.every((each) => name.includes(each));
  });
}

/** Read who there is. What goes wrong is said by the views that need it. */
export async function readPeople() {
  let rows;
  try {
    rows = (await get("/v1/contacts")).trust;
  } catch {
    return;
  }
  known.clear();
  for (const row of rows) {
    const before = known.get(row.peer);
    known.set(row.peer, {
      peer: row.peer,
      alias: row.alias ?? "",
      online: Boolean(row.peer_online),
      outgoing: before?.outgoing || (row.direction === "outgoing" && row.status === "active"),
    });
  }
  const now = JSON.stringify([...known.values()]);
  if (now === shown) return;
  shown = now;
  people.dispatchEvent(new Event("changed"));
}

/** Whom tasks may be sent to now, as {peer, alias, online}. */
export const recipients = () => [...known.values()].filter((each) => each.outgoing);

/** How many contacts there are. */
export const howMany = () => known.size;
