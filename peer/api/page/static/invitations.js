// Invitations: ask somebody, answer who asked me (nothing chosen beforehand), take one back.

import { get, post, remove, seg } from "./api.js";
import { copyable } from "./copy.js";
import { busy, button, confirm, field, fill, h, problem, toast } from "./dom.js";
import { withConfirmation } from "./contacts.js";
import { choices, scopeForm } from "./scope.js";
import { line, whole } from "./text.js";

const PROGRESS = {
  not_mailed: "no mail was sent", mailed: "handed to the mail server", fetched: "arrived on their device",
  other_key: "answered, under a different key",
  accepted: "accepted", declined: "declined", withdrawn: "withdrawn", expired: "expired",
};

/** What to do about somebody who comes under another root key than the one they are known by. */
function differentKey(what, who) {
  return [
    h("p.hint", {}, `${what} is under a different root key from the one by which you know ${line(who)}. Ask them in person or by phone whether they made a new one. If they did, run this in a terminal:`),
    copyable(`dispatch trust forget-key ${line(who)}`),
  ];
}

export function invitations() {
  const received = h("div", {}, h("p.quiet", {}, "Loading…"));
  const sent = h("div");
  let answering = "";
  let shown = "";

  async function load() {
    try {
      const told = await get("/v1/invitations?ended=1");
      const now = JSON.stringify(told);
      if (now === shown) return;
      shown = now;
      const open = told.received.filter((each) => each.status === "open");
      if (!answering || !open.some((each) => each.token === answering)) {
        answering = "";
        fill(received, open.length ? h("ul.cards", {}, open.map((each) => h("li.card", {}, asks(each)))) : h("p.quiet", {}, "Nobody is waiting for your answer."));
      }
      fill(sent, told.sent.length ? h("ul.plain-list", {}, told.sent.map(mine)) : h("p.quiet", {}, "You have not invited anybody yet."));
    } catch (error) {
      fill(received, problem(error));
    }
  }

  function asks(item) {
    const place = h("div");
    const wrong = h("div");
    const answer = (event) => busy(event.currentTarget, wrong, async () => {
      answering = item.token;
      place.replaceChildren(await answerForm(item.token, done));
      place.querySelector("input")?.focus();
    });
    const no = async (event) => {
      const pressed = event.currentTarget;
      if (!(await confirm(`Decline ${line(item.from)}?`, "Nothing is permitted, and they are told.", "Decline", "primary"))) return;
      await busy(pressed, wrong, () => post("/v1/invitations/decline", { token: item.token }));
      done("Declined. Nothing was permitted.");
    };
    const block = async (event) => {
      const pressed = event.currentTarget;
      if (!(await confirm(`Block ${line(item.from)}?`, "Their invitations are refused from now on.", "Block"))) return;
      await busy(pressed, wrong, () => post("/v1/block", { email: item.from }));
      done("Blocked.");
    };
    return [
      h("h3", {}, h("span.person", {}, line(item.from)), " asks to send you tasks"),
      h("p.hint", {}, `until ${whole(item.expires)} · `, item.verified ? "their key is verified" : "their key is not verified: the invitation came only from the broker"),
      item.other_key ? differentKey("This invitation", item.from) : null,
      h("p.hint", {}, "Their fingerprint: ", h("span.digits", {}, item.fingerprint)),
      h("div.actions", {}, button("Choose what to permit", answer, "primary"), button("Decline", no), button("Block", block)),
      wrong, place,
    ];
  }

  async function done(words) {
    answering = "";
    shown = "";
    toast(words);
    await load();
    document.getElementById("main").focus();
  }

  function mine(item) {
    const wrong = h("div");
    return h("li", {},
      h("span.person", {}, line(item.to)), h("span.badge", {}, PROGRESS[item.progress] ?? line(item.status)),
      h("span.hint", {}, item.status === "open" ? `until ${whole(item.expires)}` : whole(item.created)),
      item.progress === "other_key" ? differentKey("The answer that the broker brought", item.to) : null,
      item.status === "open"
        ? [item.link && item.progress !== "other_key" ? copyable(item.link) : null,
           item.page && item.progress !== "other_key" ? [h("p.hint", {}, "A page that explains it to them. It does not prove who you are:"), copyable(item.page)] : null,
           h("div.actions", {}, button("Withdraw it", async (event) => {
             await busy(event.currentTarget, wrong, () => remove(`/v1/invitations/${seg(item.token)}`));
             shown = "";
             await load();
           })), wrong]
        : null);
  }

  const invite = inviteForm(async () => {
    shown = "";
    await load();
  });
  const open = pasteForm(done, (token) => { answering = token; });

  return {
    title: "Invitations",
    content: [h("h1", {}, "Invitations"),
      h("section", { "aria-labelledby": "received-title" }, h("h2", { id: "received-title" }, "Received"), received), open.element, invite.element,
      h("section", { "aria-labelledby": "sent-title" }, h("h2", { id: "sent-title" }, "Sent"), sent)],
    ready: load(),
    invitations: load,
    reset: load,
    leave() {},
  };
}

/** The form that asks somebody for permission; `invited()` is called once it is done. */
export function inviteForm(invited) {
  const made = h("div");
  const trouble = h("div");
  const email = h("input", { type: "email", id: "invite-email", autocomplete: "off", required: true, spellcheck: "false" });
  const element = h("form.card", { on: { submit: async (event) => {
    event.preventDefault();
    await busy(event.submitter ?? element, trouble, async () => {
      const told = await post("/v1/invitations", { email: email.value.trim() });
      email.value = "";
      fill(made, h("div.done", { role: "status" },
        h("p", {}, told.existing ? `Your invitation to ${line(told.to)} is open already.` : told.emailed ? `${line(told.to)} gets a mail.` : `No mail was sent: give ${line(told.to)} this address yourself.`),
        h("p.hint", {}, "The address also proves to each of you who the other is. Send it in a way that only they can read. They paste it under Invitations, or give it to dispatch join."),
        copyable(told.link)));
      await invited();
    });
  } } },
  h("h2", {}, "Invite somebody"),
  h("p.quiet", {}, "They choose what your tasks may do on their machine. Until then, nothing is permitted."),
  field("Their e-mail address", email),
  h("div.actions", {}, h("button.primary", { type: "submit" }, "Invite")), trouble, made);
  return { element };
}

/** The form that takes an invitation's address; `answered(words)` once it is answered, `opened(token)` before. */
export function pasteForm(answered, opened = () => {}) {
  const trouble = h("div");
  const pasted = h("div");
  const paste = h("input", { id: "invitation-address", autocomplete: "off", spellcheck: "false" });
  const element = h("form.card", { on: { submit: async (event) => {
    event.preventDefault();
    await busy(event.submitter ?? element, trouble, async () => {
      const token = paste.value.trim();
      opened(token);
      pasted.replaceChildren(await answerForm(token, async (words) => {
        paste.value = "";
        pasted.replaceChildren();
        await answered(words);
      }));
      pasted.querySelector("input")?.focus();
    });
  } } },
  h("h2", {}, "Do you have an invitation?"),
  field("The address or token of an invitation to you", paste),
  h("div.actions", {}, h("button", { type: "submit" }, "Open it")), trouble, pasted);
  return { element };
}

/** The menu for one invitation, by token or address. Nothing is chosen when it opens. */
async function answerForm(token, finished) {
  const [offer, options] = await Promise.all([post("/v1/invitations/accept", { token }), choices()]);
  const wrong = h("div");
  const yes = h("button.primary", { type: "button", disabled: true, on: { click: (event) => answer(event) } }, "Choose an answer first");
  const form = scopeForm(offer.inviter, null, options, {
    changed: (now) => {
      yes.disabled = !now || (!now.decline && !now.tools.length);
      yes.textContent = !now ? "Choose an answer first" : now.decline ? "Decline" : "Permit this";
    },
  });
  async function answer(event) {
    const now = form.chosen();
    const pressed = event.currentTarget;
    if (now.decline) {
      await busy(pressed, wrong, async () => {
        await post("/v1/invitations/decline", { token });
        await finished("Declined. Nothing was permitted.");
      });
      return;
    }
    await withConfirmation(pressed, wrong, offer.inviter, false, form.proxied(), async (yes) => {
      await post("/v1/invitations/accept", { token, ...now, ...form.shown(), ...yes });
      await finished(`${line(offer.inviter)} may now send you tasks.`);
    });
  }
  return h("form.editor", { on: { submit: (event) => event.preventDefault() } },
    h("p", {}, line(offer.standing)),
    (offer.mcp_servers_left_out ?? []).map((each) => h("p.hint", {}, `Cannot be granted: ${each}`)),
    form.element, h("div.actions", {}, yes), wrong);
}
