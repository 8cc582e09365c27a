// Deciding about a dispatch in the inbox: where it would run, what it may do there, accept or decline. No trace here.

import { get, post, seg } from "./api.js";
import { busy, button, capital, choice, field, fill, h } from "./dom.js";
import { line } from "./text.js";
import { permitsList, scopeOf } from "./scope.js";

const OTHER = "other"; // no folder: those begin with /
const TYPED_MS = 400; // without a further key, until a typed folder is looked at

/** The form for a pending dispatch. `decided(words)` is called once it is. */
export function decideForm(item, decided) {
  const suggestion = item.suggestion ?? { candidates: [] };
  const candidates = suggestion.candidates ?? [];
  const trouble = h("div");
  const may = h("div", {}, h("p.quiet", {}, "Looking up what it may do…"));
  const first = suggestion.pinned || suggestion.granted;
  const known = new Set();
  const folders = [];
  const suggests = (each) => (each.reason ? `${each.cwd === suggestion.cwd ? "suggested: " : ""}${each.reason}` : "");
  const hint = (each) => [suggests(each), ...(suggestion.obstacles?.[each.cwd] ?? [])].filter(Boolean).join("; ");
  for (const each of [suggestion.cwd ? suggestion : null, ...candidates]) {
    if (!each?.cwd || known.has(each.cwd)) continue;
    known.add(each.cwd);
    folders.push(
      choice("radio", "cwd", each.cwd, line(each.cwd), hint(each), {
        checked: first && each.cwd === suggestion.cwd,
      }),
    );
  }
  const other = h("input", {
    id: "other-folder",
    placeholder: "/home/you/code/project",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Folder to run it in",
    on: {
      input: () => {
        form.querySelector(`input[value="${OTHER}"]`).checked = true;
        describe(TYPED_MS);
      },
    },
  });
  const runs = h("p.runs", { id: "runs-in", role: "status" });
  const reason = h("input", { id: "reason", maxlength: "2000", autocomplete: "off" });
  const form = h(
    "form.card.decide",
    { "aria-labelledby": "decide-title", on: {
      submit: (event) => event.preventDefault(),
      change: (event) => event.target.name === "cwd" && describe(),
    } },
    h("h2", { id: "decide-title" }, "Do you want to run this?"),
    may,
    h(
      "fieldset",
      {},
      h("legend", {}, "Where it runs"),
      folders,
      choice("radio", "cwd", "", "An empty workspace", "It sees nothing of yours but what came with the task.", {
        checked: !first,
      }),
      choice("radio", "cwd", OTHER, "Another folder"),
      other,
    ),
    runs,
    h("div.actions", {},
      h("button.primary", { type: "button", "aria-describedby": runs.id, on: { click: (event) => busy(event.currentTarget, trouble, accept) } }, "Accept and run"),
    ),
    h("details", {},
      h("summary", {}, "Decline instead"),
      field("A note to them (optional)", reason),
      h("div.actions", {}, button("Decline", (event) => busy(event.currentTarget, trouble, decline), "danger")),
    ),
    trouble,
  );

  // The folder that was typed and whose obstacles are shown: the next press accepts it.
  let warned = "";

  /** The chosen folder, "" for an empty one of its own, and whether it was typed. */
  function chosen() {
    const { value } = form.querySelector("input[name=cwd]:checked");
    return value === OTHER ? { cwd: other.value.trim(), typed: true } : { cwd: value, typed: false };
  }

  const look = (cwd) => get(`/v1/dispatches/${seg(item.dispatch_id)}/folder?cwd=${encodeURIComponent(cwd)}`);

  let looking = 0;

  /** Say above the button what accepting does with the folder that is chosen now. A typed one is looked at after `ms`. */
  function describe(ms = 0) {
    clearTimeout(looking);
    const { cwd, typed } = chosen();
    fill(runs, typed ? "" : capital(suggestion.runs_in?.[cwd] ?? ""));
    if (!typed || !cwd) return;
    looking = setTimeout(async () => {
      try {
        const told = await look(cwd);
        const now = chosen();
        if (now.typed && now.cwd === cwd) fill(runs, capital(told.runs));
      } catch {
        // Why it cannot run there is said when it is accepted.
      }
    }, ms);
  }
  describe();

  async function accept() {
    const { cwd, typed } = chosen();
    if (typed && !cwd) {
      other.focus();
      throw { message: "no folder was named", fix: "type a folder, or choose another place" };
    }
    if (typed && warned !== cwd) {
      const { cwd: real, obstacles, link } = await look(cwd);
      if (link) {
        // Its obstacles are told with the next press.
        other.value = real;
        describe();
        throw { message: `nothing runs yet: ${line(cwd)} leads to ${line(real)}`, fix: "accept again to run it there" };
      }
      if (obstacles.length) {
        warned = cwd;
        throw { message: `in a run there, ${obstacles.join("; ")}`, fix: "accept again to run it anyway" };
      }
    }
    await settle(() => post(`/v1/dispatches/${seg(item.dispatch_id)}/accept`, { cwd }), "Accepted: it starts now.");
  }

  async function decline() {
    await settle(
      () => post(`/v1/dispatches/${seg(item.dispatch_id)}/decline`, { reason: reason.value }),
      "Declined. They are told.",
    );
  }

  // Decided elsewhere meanwhile: that is said by whoever shows the dispatch, and these buttons go.
  async function settle(ask, words) {
    try {
      await ask();
      decided(words);
    } catch (error) {
      if (error.code !== 409 && error.code !== 410) throw error;
      const now = await get(`/v1/page/dispatches/${seg(item.dispatch_id)}`);
      if (now.status === "pending") throw error;
      decided("", error);
    }
  }

  (async () => {
    try {
      const edge = await get(`/v1/trust/${seg(item.peer)}`);
      const { permits } = await post("/v1/page/preview", { peer: item.peer, ...scopeOf(edge) });
      fill(may, h("details", {}, h("summary", {}, short(edge)), permitsList(permits)));
    } catch (error) {
      fill(may, h("p.care", {}, error.message));
    }
  })();
  return form;
}

function short(edge) {
  const tools = edge.scopes.tools.join(", ");
  const asked = {
    manual: "You are asked before every step.",
    review: "You are not asked before its steps; nothing is sent before you have looked at it.",
  }[edge.scopes.approval] ?? "You are not asked before its steps.";
  return `It may use ${tools}. ${asked}`;
}
