// Contacts: who may send whom tasks, and one contact whole: what they may do, stored rules, pause, revoke, fingerprints.

import { get, patch, post, seg } from "./api.js";
import { busy, button, confirm, field, fill, h, problem, toast } from "./dom.js";
import { readPeople } from "./people.js";
import { askedWords, choices, permitsList, scopeForm, scopeOf } from "./scope.js";
import { line, moment, rule, whole } from "./text.js";

const STATUS = {
  offered: "being set up",
  active: "in force",
  paused: "paused",
  revoked: "revoked",
  expired: "expired",
  declined: "declined",
};
const OPEN = new Set(["offered", "active", "paused"]);

function online(row) {
  return row.peer_online
    ? h("span.online", { "data-online": "yes" }, row.path === "relay" ? "online, through a relay" : "online, direct")
    : h("span.online", {}, "offline");
}

// How a contact is connected, in more words, on its own page.
const path = (row) =>
  row.path ? h("span.hint", {}, `since ${moment(row.path_since)}, ${row.round_trip_ms} ms there and back`) : null;

const verified = (row) =>
  row.key_forgotten ? h("span.badge", { "data-kind": "care" }, "key forgotten") :
  row.verified ? h("span.badge", { "data-kind": "good" }, "verified") : h("span.badge", { "data-kind": "care" }, "not verified");

function summary(row) {
  const scope = row.scopes;
  return `${scope.tools.join(", ")}${scope.mcp_servers.length ? `, and ${scope.mcp_servers.join(", ")}` : ""}; ` +
    askedWords(scope.approval, row.direction === "incoming" ? "you" : "they");
}

export function contacts() {
  const place = h("div", {}, h("p.quiet", {}, "Loading…"));
  async function load() {
    try {
      const { trust } = await get("/v1/contacts");
      const people = new Map();
      for (const row of trust) people.set(row.peer, [...(people.get(row.peer) ?? []), row]);
      fill(
        place,
        people.size
          ? h("ul.people", {}, [...people].map(([peer, rows]) =>
              h("li", {},
                h("a.row", { href: `/contacts/${seg(peer)}` },
                  h("span.peer", {}, h("span.person", {}, line(rows[0].alias || peer)), rows[0].alias ? [" ", h("span.address", {}, line(peer))] : null),
                  h("span.marks", {}, online(rows[0]), verified(rows[0])),
                  rows.map((row) =>
                    h("span.text", {},
                      h("strong", {}, row.direction === "incoming" ? "May send to you: " : "You may send to them: "),
                      OPEN.has(row.status) ? summary(row) : "", row.status === "active" ? "" : ` (${STATUS[row.status] ?? row.status})`))))))
          : h("div.empty", {}, h("p", {}, "You have no contacts yet."),
              h("p.quiet", {}, "People who accept your invitation appear here, and so do people whose invitation you accept."),
              h("div.actions", {}, h("a.button.primary", { href: "/invitations" }, "Invite somebody"))),
      );
    } catch (error) {
      fill(place, problem(error));
    }
  }
  return {
    title: "Contacts",
    content: [h("h1", {}, "Contacts"), place],
    ready: load(),
    trust: load,
    reset: load,
    leave() {},
  };
}

export function contact({ peer }) {
  const head = h("div", {}, h("h1", {}, line(peer)), h("p.quiet", {}, "Loading…"));
  const body = h("div");
  const compare = h("div", { hidden: true });
  let shown = "";
  let alias = "";
  const naming = aliasForm();

  /** What this person calls them: a button, and the place of the form that it opens. */
  function aliasForm() {
    const place = h("div");
    const pressed = button("Rename", () => {
      const trouble = h("div");
      const name = h("input", { autocomplete: "off", spellcheck: "false", maxlength: "200" });
      name.value = alias;
      const close = () => {
        fill(place);
        pressed.hidden = false;
        pressed.focus();
      };
      const form = h("form.alias", { on: {
        submit: async (event) => {
          event.preventDefault();
          await busy(event.submitter ?? form, trouble, async () => {
            await patch(`/v1/contacts/${seg(peer)}`, { alias: name.value.trim() });
            close();
            await Promise.all([load(), readPeople()]);
          });
        },
        keydown: (event) => event.key === "Escape" && close(),
      } }, field("What you call them", name, `Only you see it. Empty: their address, ${line(peer)}.`),
      h("div.actions", {}, h("button.primary", { type: "submit" }, "Save the name"), button("Cancel", close)), trouble);
      fill(place, form);
      pressed.hidden = true;
      name.focus();
      name.select();
    });
    return { button: pressed, place };
  }

  async function load() {
    try {
      const { trust } = await get("/v1/contacts");
      const rows = trust.filter((row) => row.peer === peer);
      if (!rows.length) {
        fill(head, h("p.crumb", {}, h("a", { href: "/contacts" }, "Contacts")), h("h1", {}, line(peer)), h("p", {}, "This is not one of your contacts."));
        compare.hidden = true;
        return;
      }
      fill(head,
        h("p.crumb", {}, h("a", { href: "/contacts" }, "Contacts")),
        h("div.head", {}, h("h1", {}, h("span.person", {}, line(rows[0].alias || peer))), naming.button),
        rows[0].alias ? h("p.address", {}, line(peer)) : null, naming.place,
        h("p.facts", {}, online(rows[0]), path(rows[0]), verified(rows[0]), rows[0].blocked ? h("span.badge", { "data-kind": "care" }, "blocked") : null));
      compare.hidden = false;
      alias = rows[0].alias || "";
      const incoming = rows.find((row) => row.direction === "incoming");
      const outgoing = rows.find((row) => row.direction === "outgoing");
      const now = JSON.stringify([incoming?.scopes, incoming?.rules, incoming?.pinned_servers, incoming?.status, incoming?.budgets, outgoing?.scopes, outgoing?.status]);
      // Someone who is in the middle of editing is not disturbed by news that change nothing of it.
      if (now === shown) return;
      shown = now;
      fill(body, incoming ? theirs(incoming) : none(), outgoing ? mine(outgoing) : null);
    } catch (error) {
      fill(head, h("h1", {}, line(peer)), problem(error));
    }
  }

  function none() {
    return h("section.card", {}, h("h2", {}, "They may not send you tasks"),
      h("p.quiet", {}, "They can, once they have invited you and you have accepted."));
  }

  function mine(row) {
    return h("section.card", {},
      h("h2", {}, "You may send them tasks"),
      h("p", {}, OPEN.has(row.status) ? `${summary(row)}; at most ${row.scopes.max_per_day} a day.` : `No longer: ${STATUS[row.status] ?? row.status}.`),
      row.status === "active" ? h("p", {}, h("a.button", { href: `/compose?to=${seg(peer)}` }, "New dispatch")) : null);
  }

  function theirs(row) {
    const trouble = h("div");
    const editor = h("div");
    const permits = h("div");
    const act = (path) => async (event) => {
      await busy(event.currentTarget, trouble, () => post(`/v1/trust/${seg(peer)}/${path}`));
      await load();
    };
    const revoke = async (event) => {
      const pressed = event.currentTarget;
      const words = "Their running tasks are stopped at once, and new ones are refused. To send you tasks again, they have to invite you again.";
      if (!(await confirm(`Revoke what you permitted ${line(peer)}?`, words, "Revoke"))) return;
      await busy(pressed, trouble, () => post(`/v1/trust/${seg(peer)}/revoke`));
      await load();
    };
    const edit = async (event) => {
      const pressed = event.currentTarget;
      await busy(pressed, trouble, async () => {
        const options = await choices();
        const close = () => {
          editor.replaceChildren();
          permits.hidden = pressed.hidden = false;
          pressed.focus();
        };
        editor.replaceChildren(editForm(row, options, close, revoke));
        permits.hidden = pressed.hidden = true; // the form shows what it would permit, in the same words
        editor.querySelector("input")?.focus();
      });
    };
    if (OPEN.has(row.status)) {
      post("/v1/page/preview", { peer, ...scopeOf(row) })
        .then((told) => fill(permits, permitsList(told.permits)))
        .catch((error) => fill(permits, problem(error)));
    }
    return h("section.card", { "aria-labelledby": "theirs-title" },
      h("h2", { id: "theirs-title" }, "They may send you tasks"),
      row.status === "active" ? null : h("p.care", {}, `This is ${STATUS[row.status] ?? row.status}.`),
      permits,
      OPEN.has(row.status)
        ? h("div.actions", {},
            button("Change what is permitted", edit),
            row.status === "paused" ? button("Resume", act("resume")) : row.status === "active" ? button("Pause", act("pause")) : null,
            button("Revoke", revoke, "danger"))
        : null,
      trouble, editor, rules(row), servers(row));
  }

  function rules(row) {
    if (!row.rules?.length) return null;
    const trouble = h("div");
    return h("section", {},
      h("h3", {}, "Always allowed by you"),
      h("ul.rules", {}, row.rules.map((each) =>
        h("li", {}, h("code", {}, rule(each)), h("span.hint", {}, `since ${whole(each.created)}`),
          h("button", { type: "button", "aria-label": `Remove the rule ${rule(each)}`,
            on: { click: async (event) => {
              await busy(event.currentTarget, trouble, () => patch(`/v1/trust/${seg(peer)}`, { remove_rule: each.id }));
              await load();
            } } }, "Remove")))),
      trouble);
  }

  function servers(row) {
    if (!row.pinned_servers?.length) return null;
    return h("section", {},
      h("h3", {}, "Programs of yours that runs may call"),
      h("ul.rules", {}, row.pinned_servers.map((each) =>
        h("li", {}, h("strong", {}, line(each.name)), h("code", {}, line(each.command)),
          h("span.hint", {}, each.tools === null ? "not started yet" : each.tools.map(line).join(", "))))));
  }

  function editForm(row, options, close, revoke) {
    const trouble = h("div");
    const form = scopeForm(peer, row, options);
    const save = async (event, confirmed = false) => {
      const pressed = event.currentTarget;
      const now = form.chosen();
      if (!now) return;
      if (now.decline) {
        await revoke(event);
        return;
      }
      const changes = Object.fromEntries(Object.entries(now).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(form.before[name])));
      if (!Object.keys(changes).length) {
        close();
        return;
      }
      await withConfirmation(pressed, trouble, peer, confirmed, form.proxied(), async (yes) => {
        await patch(`/v1/trust/${seg(peer)}`, { ...changes, ...form.shown(), ...yes });
        toast("Saved.");
        shown = "";
        await load();
      });
    };
    return h("form.editor", { on: { submit: (event) => event.preventDefault() } },
      h("h3", {}, "Change what is permitted"), form.element,
      h("div.actions", {}, button("Save", save, "primary"), button("Leave it as it is", close)), trouble);
  }

  async function safety(place) {
    try {
      const told = await get(`/v1/page/contacts/${seg(peer)}/safety`);
      fill(place,
        h("p", {}, "Compare the safety number with them, by phone or in person. If you both see the same number, nobody stands between you."),
        h("p.digits", { "aria-label": "Safety number" }, told.safety_number),
        h("dl.pairs", {},
          h("dt", {}, "Their fingerprint"), h("dd.digits", {}, told.fingerprint, h("span.hint", {}, told.words)),
          h("dt", {}, "Yours"), h("dd.digits", {}, told.own_fingerprint, h("span.hint", {}, told.own_words))));
    } catch (error) {
      fill(place, problem(error));
    }
  }

  const numbers = h("div");
  fill(compare, h("details.card", { on: { toggle: (event) => event.currentTarget.open && !numbers.childNodes.length && safety(numbers) } },
    h("summary", {}, "Fingerprint and safety number"), numbers));
  return {
    title: peer,
    content: [head, body, compare],
    ready: load(),
    trust: load,
    reset: load,
    leave() {},
  };
}

/**
 * Do `work(yes)`, where `yes` is what the person confirmed, as the API takes it. They are asked once more first about
 * hosts that this machine's HTTP proxy resolves (`proxied`), and about a powerful grant to somebody unverified.
 */
export async function withConfirmation(pressed, place, who, confirmed, proxied, work) {
  await busy(pressed, place, async () => {
    const { hosts, words } = proxied;
    if (hosts.length && !(await confirm(`Permit ${hosts.join(", ")} nevertheless?`, words, "Permit each of these"))) return;
    const yes = (confirm_unverified) => ({ confirm_unverified, ...(hosts.length ? { confirm_by_proxy: hosts } : {}) });
    try {
      await work(yes(confirmed));
    } catch (error) {
      if (error.code !== 409 || confirmed || !/unverified/.test(error.message)) throw error;
      const words = `${error.message}. Whoever controls their mailbox or the broker could be asking. Compare the fingerprint with ${line(who)} by phone or in person first.`;
      if (await confirm("Permit this although you have not verified their key?", words, "I compared it: permit")) await work(yes(true));
    }
  });
}
