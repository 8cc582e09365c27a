// One tool call that waits for an answer: who asks for what, and the five answers by button or by key. No lists here.

import { get, post, seg } from "./api.js";
import { fill, fresh, h, long, problem } from "./dom.js";
import { excerpt, line, rule } from "./text.js";

const ARMED_AFTER = 1200; // milliseconds: an answer that comes faster was meant for what stood here before
const TITLES = {
  Read: "Read a file",
  Glob: "Find files by name",
  Grep: "Search in files",
  Write: "Write a file",
  Edit: "Change a file",
  Bash: "Run a command",
};

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
      return "The run has ended, so there is nothing to decide any more.";
  }
}

function input(call) {
  const given = call.input ?? {};
  if (call.tool === "Bash" && typeof given.command === "string") {
    const { command, ...rest } = given;
    return [long(command), Object.keys(rest).length ? pairs(rest) : null];
  }
  return pairs(given);
}

export function pairs(given) {
  return h(
    "dl.pairs",
    {},
    Object.entries(given).map(([name, value]) => [
      h("dt", {}, name),
      h("dd", {}, long(typeof value === "string" ? value : JSON.stringify(value, null, 2))),
    ]),
  );
}

export function diff(text) {
  const shown = excerpt(text, { characters: 40_000, lines: 400 }).split("\n");
  const kind = (row) => (/^(?:\+\+\+|---)/.test(row) ? "head" : { "+": "added", "-": "removed", "@": "place" }[row[0]] ?? "same");
  return h(
    "pre.diff",
    { "aria-label": "What it changes, line by line", role: "group", tabindex: "0" },
    shown.map((row) => h(`span.${kind(row)}`, {}, `${row}\n`)),
  );
}

/** The card of a waiting call. `done` is called when it is decided, with words for the person. */
export function approvalCard(call, { done = () => {}, showLink = false } = {}) {
  const id = fresh("call");
  const armed = performance.now() + ARMED_AFTER;
  const ends = performance.now() + call.expires_in * 1000;
  const rules = call.rule_choices?.length ? call.rule_choices : call.rule_if_always ? [call.rule_if_always] : [];
  const trouble = h("div");
  const note = h("input", { id: `${id}-note`, maxlength: "2000", autocomplete: "off", "aria-describedby": `${id}-note-hint` });
  const left = h("span.countdown", { role: "timer", "aria-label": "Time left to answer" });
  let decided = false;

  const chosen = () => Number(card.querySelector("input[type=radio]:checked")?.value ?? 0);
  const answers = [
    ["Allow once", { decision: "allow", grant: "once" }, "primary"],
    ["Always allow", { decision: "allow", grant: "always" }, "", !rules.length],
    ["Allow for this run", { decision: "allow", grant: "session" }, "", !rules.length],
    ["Deny", { decision: "deny" }, ""],
    ["Decline the dispatch", { decision: "deny", decline_dispatch: true }, "danger"],
  ];

  async function answer(number) {
    const [, given, , out] = answers[number - 1];
    if (decided || out || performance.now() < armed) return;
    const body = { ...given };
    if (body.decision === "deny") body.note = note.value;
    else if (body.grant !== "once") body.rule = chosen();
    buttons.forEach((each) => (each.disabled = true));
    try {
      await post(`/v1/approvals/${seg(call.dispatch_id)}/${seg(call.request_id)}`, body);
      finish(["Allowed once.", "Allowed, and always from now on.", "Allowed for this run.", "Denied.", "You declined the dispatch."][number - 1]);
    } catch (error) {
      if (error.code === 409 || error.code === 410) finish((await decidedWords(call)) || error.message);
      else {
        fill(trouble, problem(error));
        buttons.forEach((each, index) => (each.disabled = Boolean(answers[index][3])));
      }
    }
  }

  const buttons = answers.map(([text, , kind, out], index) =>
    h(kind ? `button.${kind}` : "button", { type: "button", disabled: true, on: { click: () => answer(index + 1) } },
      h("kbd", { "aria-hidden": "true" }, String(index + 1)), text, out ? h("span.hint", {}, " (not for this call)") : null));

  const card = h(
    "section.card.approval",
    { "aria-labelledby": id, tabindex: "-1" },
    h("div.head", {}, h("h2", { id }, `${TITLES[call.tool] ?? "Use a tool"}?`), left),
    h("p.asks", {}, h("strong", {}, line(call.sender_id)), "’s task asks to use ", h("code", {}, call.tool),
      call.agent_id ? ", through a helper that the agent started" : "", "."),
    (call.unusual ?? []).length
      ? h("p.care", {}, h("strong", {}, "Look twice: "), (call.unusual ?? []).join("; "))
      : null,
    call.mcp_pin ? h("p.care", {}, "This tool is new, or other than when you granted its service. Allowing it accepts it as it is now.") : null,
    input(call),
    call.resolved_path ? h("p.path", {}, "On this machine: ", h("code", {}, call.resolved_path)) : null,
    call.diff ? diff(call.diff) : null,
    h("p.goes", {}, "What this returns goes to ", h("strong", {}, line(call.sender_id)), "."),
    rules.length > 1
      ? h(
          "fieldset",
          {},
          h("legend", {}, "“Always” and “for this run” cover"),
          rules.map((each, index) =>
            h("div.choice", {},
              h("input", { type: "radio", name: `${id}-rule`, value: String(index), id: `${id}-rule-${index}`, checked: index === 0 }),
              h("label", { for: `${id}-rule-${index}` }, h("code", {}, rule(each))))),
        )
      : rules.length === 1
        ? h("p.hint", {}, "“Always” and “for this run” cover ", h("code", {}, rule(rules[0])))
        : null,
    h("div.answers", { role: "group", "aria-label": "Your answer; keys 1 to 5" }, buttons),
    h("div.note", {},
      h("label", { for: `${id}-note` }, "Note with a denial"),
      note,
      h("p.hint", { id: `${id}-note-hint` }, "The agent and the sender read it.")),
    showLink ? h("p", {}, h("a", { href: `/dispatches/${seg(call.dispatch_id)}` }, "Show the whole dispatch")) : null,
    trouble,
  );

  const ready = setTimeout(() => {
    if (!decided) buttons.forEach((each, index) => (each.disabled = Boolean(answers[index][3])));
    card.dataset.armed = "true";
  }, ARMED_AFTER);
  const tick = setInterval(count, 500);
  function count() {
    const seconds = Math.max(0, Math.ceil((ends - performance.now()) / 1000));
    left.textContent = seconds >= 60 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s left` : `${seconds} s left`;
    left.classList.toggle("soon", seconds <= 20);
    if (seconds === 0) buttons.forEach((each) => (each.disabled = true));
  }
  count();

  function finish(words) {
    if (decided) return;
    decided = true;
    clearInterval(tick);
    clearTimeout(ready);
    const hadFocus = card.contains(document.activeElement);
    fill(card, h("p", { role: "status" }, h("code", {}, call.tool), " — ", words));
    card.classList.add("over");
    if (hadFocus) card.focus();
    done(words);
  }

  return {
    element: card,
    call,
    answer,
    get decided() {
      return decided;
    },
    /** It waits no more: say what was decided, and by whom. */
    async gone() {
      if (decided) return;
      const words = await decidedWords(call);
      if (words) finish(words);
    },
    leave() {
      clearInterval(tick);
      clearTimeout(ready);
    },
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
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !/^[1-5]$/.test(event.key)) return;
    if (event.target.closest?.("input:not([type=radio]), textarea, select, dialog")) return;
    const card = active();
    if (!card) return;
    event.preventDefault();
    card.answer(Number(event.key));
  }

  function take(call) {
    const key = keyOf(call);
    if (cards.has(key) || !wanted(call)) return;
    const card = approvalCard(call, {
      showLink,
      done: () => {
        mark();
        setTimeout(() => {
          card.element.remove();
          cards.delete(key);
        }, 6000);
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
          page = await get(`/v1/approvals${before === null ? "" : `?before=${seg(before)}`}`);
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
