// One tool call that waits for an answer: what it does, what it changes, and the five answers by button or by key.

import { get, patch, post, seg } from "./api.js";
import { headline, pairs } from "./call.js";
import { diffTable, plainDiff } from "./diff.js";
import { button, fill, fresh, h, long, problem } from "./dom.js";
import { coloured } from "./reply.js";
import { line, quoted, rule } from "./text.js";

const ARMED_AFTER = 1200; // milliseconds: an answer that comes faster was meant for what stood here before
const ROWS = 60; // of a diff, before it is asked for more
const STAYS = 6000; // milliseconds that a decided card stays
const UNDO_STAYS = 60_000; // and one with a rule that can be taken back
const [ONCE, ALWAYS, SESSION, DENY, DECLINE] = [1, 2, 3, 4, 5];

/** What became of a call that was decided elsewhere, in words. */
export async function decidedWords(call) {
  let told = {};
  try {
    told = await get(`/v1/page/approvals/${seg(call.dispatch_id)}/${seg(call.request_id)}`);
  } catch {
    // Gone with its run: the words below fit.
  }
  const reach = { once: " once", session: " for this run", always: " always" }[told.grant] ?? "";
  switch (told.outcome) {
    case "allowed":
      return `Already allowed${reach}, by you in another window or on the command line.`;
    case "denied":
      return "Already denied, by you in another window or on the command line.";
    case "unanswered":
      return "Nobody answered within two minutes, so it was denied.";
    case "":
      return "";
    default:
      return "The run has ended, so there is nothing left to decide.";
  }
}

/** Whether its line and its diff or command say all of a call, so that its arguments need not be read beside them. */
const saysAll = ({ words }) => Boolean(words.whole || words.script);

/** The colours of its diff or command; null where there are none. It is read and answered as well without. */
async function colours({ dispatch_id: id, request_id: request }) {
  try {
    return (await get(`/v1/page/approvals/${seg(id)}/${seg(request)}/colours`)).colours;
  } catch {
    return null;
  }
}

/** What of a call has to be seen beside its line: a diff, a command, or its arguments. */
function body(call) {
  const { command, ...rest } = call.input ?? {};
  if (call.words.script) {
    const { description, timeout, ...others } = rest;
    const shown = long(command);
    const whole = shown.tagName === "PRE"; // else the middle of it is left out
    if (whole) colours(call).then((known) => known && fill(shown, coloured(command, known.new)));
    return [h("div.command", {}, shown), Object.keys(others).length ? pairs(others) : null];
  }
  if (!call.diff) return saysAll(call) ? null : pairs(call.input);
  const table = diffTable(call.diff, "What it changes, line by line", { most: ROWS, plainly: true });
  if (table) colours(call).then((known) => known && table.colour(known));
  return [table?.element ?? plainDiff(call.diff), saysAll(call) ? null : pairs(call.input)];
}

/** Where on this machine it is, in words. */
function where({ resolved_path: path, dispatch_id: id }) {
  if (!path) return null;
  if (path.includes(`/runs/${id}/`)) return h("p.path.hint", {}, "In the run’s own folder. Files in its folder ", h("code", {}, "out"), " are returned with the result.");
  return h("p.path.hint", {}, "On this machine: ", h("code", {}, path));
}

/** The call as the agent made it, drawn when it is unfolded. */
function raw(call) {
  const place = h("div");
  return h("details.raw", { on: { toggle: (event) => event.currentTarget.open && !place.childElementCount && fill(place, pairs(call.input)) } },
    h("summary", {}, "Raw call: ", h("code", {}, call.tool)), place);
}

/** The card of a waiting call. `done` is called when it is decided, with how long it stays. */
export function approvalCard(call, { done = () => {}, showLink = false } = {}) {
  const id = fresh("call");
  let armed = performance.now() + ARMED_AFTER;
  const ends = performance.now() + call.expires_in * 1000;
  const rules = call.rule_choices?.length ? call.rule_choices : call.rule_if_always ? [call.rule_if_always] : [];
  const { words } = call;
  const sender = line(call.sender_id);
  const trouble = h("div");
  const note = h("input", { id: `${id}-note`, maxlength: "2000", autocomplete: "off", "aria-describedby": `${id}-note-hint` });
  const left = h("span.countdown", { role: "timer", "aria-label": "Time left to answer" });
  const choosing = h("div.choosing", { id: `${id}-rules`, hidden: true });
  let decided = false;
  let timer = 0;

  const chosen = () => Number(choosing.querySelector("input[type=radio]:checked")?.value ?? 0);
  const answers = [
    ["Allow once", { decision: "allow", grant: "once" }, "primary"],
    ["Always allow…", { decision: "allow", grant: "always" }, "", !rules.length],
    ["For this run", { decision: "allow", grant: "session" }, "", !rules.length],
    ["Deny", { decision: "deny" }, ""],
    ["Decline the dispatch", { decision: "deny", decline_dispatch: true }, "danger"],
  ];
  const able = (yes) => buttons.forEach((each, index) => (each.disabled = !yes || Boolean(answers[index][3])));

  async function answer(number) {
    const [, given, , out] = answers[number - 1];
    if (decided || out || performance.now() < armed) return;
    // A rule for every task to come is seen before it is stored: the first press shows it, the second one stores it.
    if (number === ALWAYS && choosing.hidden) {
      choose(true);
      return;
    }
    const sent = { ...given };
    if (sent.decision === "deny") sent.note = note.value;
    else if (sent.grant !== "once") sent.rule = chosen();
    able(false);
    try {
      const answered = await post(`/v1/approvals/${seg(call.dispatch_id)}/${seg(call.request_id)}`, sent);
      if (number === ALWAYS && answered.rule) stored(answered.rule);
      else finish({ [ONCE]: "Allowed once.", [ALWAYS]: "Allowed.", [SESSION]: "Allowed for this run.", [DENY]: "Denied.", [DECLINE]: "You declined the dispatch." }[number]);
    } catch (error) {
      if (error.code === 409 || error.code === 410) finish((await decidedWords(call)) || error.message);
      else {
        fill(trouble, problem(error));
        able(true);
      }
    }
  }

  const buttons = answers.map(([text, , kind, out], index) =>
    h(kind ? `button.${kind}` : "button", {
      type: "button", disabled: true, on: { click: () => answer(index + 1) },
      title: out ? "No rule can be made from this call" : null,
      ...(index + 1 === ALWAYS ? { "aria-expanded": "false", "aria-controls": choosing.id } : {}),
    }, h("kbd", { "aria-hidden": "true" }, String(index + 1)), h("span", {}, text)));

  /** Show the rules that can be stored, one of them chosen, or hide them again. */
  function choose(open) {
    choosing.hidden = !open;
    const pressed = buttons[ALWAYS - 1];
    pressed.setAttribute("aria-expanded", String(open));
    pressed.querySelector("span").textContent = open ? "Store this rule" : answers[ALWAYS - 1][0];
    pressed.classList.toggle("primary", open);
    buttons[ONCE - 1].classList.toggle("primary", !open);
    if (!open) {
      pressed.focus();
      return;
    }
    fill(choosing,
      h("fieldset", {},
        h("legend", {}, "From now on, in every task of ", h("strong", {}, sender), ", do this without asking:"),
        rules.map((each, index) =>
          h("div.choice", {},
            h("input", { type: "radio", name: `${id}-rule`, value: String(index), id: `${id}-rule-${index}`, checked: index === 0 }),
            h("label", { for: `${id}-rule-${index}` }, h("code", {}, rule(each)))))),
      h("p.hint", {}, "Nothing is stored yet. “Store this rule” keeps it; “For this run” ends with the run. ",
        button("Back", () => choose(false), "plain")));
    choosing.querySelector("input").focus({ preventScroll: true });
    arm();
  }

  const card = h(
    "section.card.approval",
    { "aria-labelledby": id, tabindex: "-1" },
    h("p.where", {},
      h("span", {}, h("strong", {}, sender), call.step ? ` · step ${call.step} of this run` : "", call.agent_id ? " · by a helper that the agent started" : ""),
      showLink && call.task ? h("a", { href: `/dispatches/${seg(call.dispatch_id)}` }, line(call.task)) : null),
    h("h2.does", { id }, headline(words)),
    (call.unusual ?? []).length
      ? h("p.care", {}, h("strong", {}, "Look twice: "), (call.unusual ?? []).join("; "))
      : null,
    call.mcp_pin ? h("p.care", {}, "This tool is new, or has changed since you granted its service. If you allow it, you accept it as it is now.") : null,
    call.tool === "Bash" && call.input?.description ? h("p.hint", {}, "The agent’s description: ", quoted(call.input.description)) : null,
    body(call),
    where(call),
    saysAll(call) ? raw(call) : null,
    h("details.note", {}, h("summary", {}, "Deny with a note"),
      h("label", { for: `${id}-note` }, "Note with a denial"), note,
      h("p.hint", { id: `${id}-note-hint` }, "The agent and the sender read it. It goes with “Deny”.")),
    h("div.bar", {},
      h("p.brief", { "aria-hidden": "true" }, words.verb, " ", line(words.what)),
      trouble,
      choosing,
      h("p.goes", {}, h("span", {}, "What this returns goes to ", h("strong", {}, sender), "."), left),
      h("div.answers", { role: "group", "aria-label": "Your answer; keys 1 to 5" }, buttons)),
  );

  /** Take answers from a moment on, and not before. */
  function arm() {
    armed = performance.now() + ARMED_AFTER;
    able(false);
    delete card.dataset.armed;
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (decided) return;
      able(true);
      card.dataset.armed = "true";
    }, ARMED_AFTER);
  }
  arm();
  // Where its line has left the window, the bar says it.
  const watch = new IntersectionObserver(([{ isIntersecting }]) => card.classList.toggle("away", !isIntersecting));
  watch.observe(card.querySelector("h2"));
  const tick = setInterval(count, 500);
  function count() {
    const seconds = Math.max(0, Math.ceil((ends - performance.now()) / 1000));
    left.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
    left.classList.toggle("soon", seconds <= 20);
    if (seconds === 0) able(false);
  }
  count();

  function stop() {
    clearInterval(tick);
    clearTimeout(timer);
    watch.disconnect();
  }

  function finish(told, { more = null, stays = STAYS } = {}) {
    if (decided) return;
    decided = true;
    stop();
    const hadFocus = card.contains(document.activeElement);
    fill(card, h("p", { role: "status" }, h("span.did", {}, headline({ ...words, added: null, more: "" })), " — ", told), more);
    card.classList.add("over");
    if (hadFocus) card.focus();
    done(stays);
  }

  /** A rule was stored with the answer: say which, and offer to take it back. */
  function stored(kept) {
    const place = h("div");
    const undo = h("div.actions", {}, button("Undo", async (event) => {
      event.currentTarget.disabled = true;
      try {
        const { rules: known } = await get(`/v1/trust/${seg(call.sender_id)}`);
        const same = known.filter((each) => each.tool === kept.tool && each.pattern === kept.pattern && each.reach === (kept.reach ?? "exact"));
        for (const each of same) await patch(`/v1/trust/${seg(call.sender_id)}`, { remove_rule: each.id });
        fill(undo, h("p", { role: "status" }, "The rule is removed. You are asked again, in this run too."));
        card.focus();
      } catch (error) {
        fill(place, problem(error));
        undo.querySelector("button").disabled = false;
      }
    }));
    finish("allowed, and from now on without asking.", { more: [h("p.rule", {}, "Stored: ", h("code", {}, rule(kept))), undo, place], stays: UNDO_STAYS });
  }

  return {
    element: card,
    call,
    answer,
    get decided() {
      return decided;
    },
    /** Escape: back from the rules to the five answers; whether it meant something. */
    back() {
      if (decided || choosing.hidden) return false;
      choose(false);
      return true;
    },
    /** It waits no more: say what was decided, and by whom. */
    async gone() {
      if (decided) return;
      const told = await decidedWords(call);
      if (told) finish(told);
    },
    leave: stop,
  };
}

/** Several cards in a place, kept as what waits changes; keys 1 to 5 answer the one in focus, else the first. */
export function approvalCards(place, { showLink = false, wanted = () => true, changed = () => {} } = {}) {
  const cards = new Map();
  const wrong = h("div");
  let again = 0;
  let left = false;
  const keyOf = (item) => `${item.dispatch_id} ${item.request_id}`;

  function active() {
    const open = [...cards.values()].filter((card) => !card.decided);
    return open.find((card) => card.element.contains(document.activeElement)) ?? open[0];
  }

  function mark() {
    const now = active();
    for (const card of cards.values()) card.element.classList.toggle("active", card === now);
    changed([...cards.values()].filter((card) => !card.decided).length);
  }

  function onKey(event) {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !/^(?:[1-5]|Escape)$/.test(event.key)) return;
    if (event.target.closest?.("input:not([type=radio]), textarea, select, dialog")) return;
    const card = active();
    if (!card) return;
    if (event.key === "Escape") {
      if (card.back()) event.preventDefault();
      return;
    }
    event.preventDefault();
    card.answer(Number(event.key));
  }

  function take(call) {
    const key = keyOf(call);
    if (cards.has(key) || !wanted(call)) return;
    const card = approvalCard(call, {
      showLink,
      done: (stays) => {
        mark();
        setTimeout(() => {
          card.element.remove();
          cards.delete(key);
        }, stays);
      },
    });
    cards.set(key, card);
    place.append(card.element);
    mark();
  }

  async function sync(waiting) {
    const keys = new Set(waiting.map(keyOf));
    for (const [key, card] of cards) if (!keys.has(key)) card.gone().then(mark);
    clearTimeout(again);
    try {
      fill(wrong);
      if (waiting.some((item) => wanted(item) && !cards.has(keyOf(item)))) {
        for (let before = null, page = null; !page || page.more; before = page.next) {
          page = await get(`/v1/page/approvals${before === null ? "" : `?before=${seg(before)}`}`);
          for (const call of page.approvals) take(call);
        }
      }
    } catch (error) {
      fill(wrong, problem(error));
      if (!left) again = setTimeout(() => sync(waiting), 2000);
      changed(null); // nobody knows how many
      return;
    }
    mark();
  }

  place.prepend(wrong);
  document.addEventListener("keydown", onKey);
  place.addEventListener("focusin", mark);
  return {
    sync,
    take,
    leave() {
      left = true;
      clearTimeout(again);
      document.removeEventListener("keydown", onKey);
      for (const card of cards.values()) card.leave();
    },
  };
}
