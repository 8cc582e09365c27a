// Choosing what an edge permits: the five options in plain words, the rest with its usual values, and what it adds up to.

import { get, post } from "./api.js";
import { choice, field, fill, h, problem } from "./dom.js";
import { line } from "./text.js";

const MB = 1024 * 1024;

const SUBJECTS = { may: "What a run may do", asked: "What you are asked", told: "What they are told, and limits" };

/** What an edge permits, by subject; what deserves a second look has a mark. `level`: of the subjects' headings. */
export function permitsList(permits, level = 3) {
  return h("div.permits", {}, Object.entries(SUBJECTS).map(([about, title]) => {
    const lines = permits.filter((each) => each.about === about);
    return lines.length
      ? h("div", {}, h(`h${level}`, {}, title), h("ul", {}, lines.map((each) =>
          h("li", { "data-weight": about === "told" && each.weight === "yes" ? "fact" : each.weight },
            each.weight === "care" ? h("span.unseen", {}, "Note: ") : null, each.text))))
      : null;
  }));
}

/** The fields of an edge as the API takes them. */
export function scopeOf(edge) {
  const { scopes, budgets } = edge;
  return {
    tools: scopes.tools,
    mcp_servers: scopes.mcp_servers.length ? scopes.mcp_servers : "none",
    paths: scopes.paths?.length ? scopes.paths : "none",
    approval: scopes.approval,
    max_per_day: scopes.max_per_day,
    expires: scopes.expires ?? "never",
    results: scopes.results,
    apply: scopes.apply,
    toolchains: scopes.toolchains?.length ? scopes.toolchains : "default",
    network: scopes.network?.length ? scopes.network : "none",
    ...(budgets ? { budget: budgets } : {}),
  };
}

const same = (a, b) => a.length === b.length && a.every((each) => b.includes(each));

/**
 * The form. `edge`: the edge to change, or null for a new one, where nothing is chosen at first. `options`: what
 * /v1/page/choices gives. Returns {element, chosen(), shown(), proxied()}: chosen is null until an option is; shown is what the
 * preview has named of this machine's, so that nothing else is granted; proxied are the hosts that it has named to be
 * confirmed, and why.
 */
export function scopeForm(peer, edge, options, { changed = () => {} } = {}) {
  const before = edge ? scopeOf(edge) : null;
  const servers = before && before.mcp_servers !== "none" ? before.mcp_servers : [];
  const fits = before
    ? options.choices.find((each) => each.kind === "grant" && same(each.tools, before.tools) && same(each.mcp_servers, servers))
    : null;
  const number = before ? (fits ? fits.number : 4) : 0;

  const radios = options.choices.map((each) =>
    choice("radio", "power", String(each.number),
      edge && each.kind === "decline" ? "Nothing any more" : each.title,
      edge && each.kind === "decline" ? "Take the permission away: revoke the edge." : explain(each),
      { checked: each.number === number }));
  const tools = options.tools.map((each) =>
    choice("checkbox", "tool", each.tool, `${each.title} (${each.tool})`, "", { checked: before?.tools.includes(each.tool) ?? false }));
  const mcp = options.mcp_servers.map((name) =>
    choice("checkbox", "server", name, line(name), "", { checked: servers.includes(name) }));
  const custom = h("fieldset.custom", { hidden: number !== 4 },
    h("legend", {}, "What it may do"), tools,
    mcp.length ? [h("p.hint", {}, "Connected services (MCP servers): programs of yours, outside the sandbox, with your access."), mcp] : null);

  const folders = h("textarea", { id: "folders", rows: "2", spellcheck: "false", placeholder: "/home/you/code/project",
    value: before && before.paths !== "none" ? before.paths.join("\n") : "" });
  const approval = h("fieldset", {},
    h("legend", {}, "Do you want to be asked before each step?"),
    choice("radio", "approval", "manual", "Yes, every time", "No answer within two minutes means no.", { checked: (before?.approval ?? "manual") === "manual" }),
    choice("radio", "approval", "review", "No, but I review everything before it is sent",
      "Calls in the granted folders run at once; the reply, trace and files wait for you.", { checked: before?.approval === "review" }),
    choice("radio", "approval", "auto", "No", "Once you have accepted a task, permitted steps run without asking.", { checked: before?.approval === "auto" }));
  const apply = h("fieldset", {},
    h("legend", {}, "What happens to changes in your folders?"),
    choice("radio", "apply", "review", "They wait for you", "A run works on a view; you look, then apply what you want.", { checked: (before?.apply ?? "review") === "review" }),
    choice("radio", "apply", "auto", "Applied when a run has completed", "Marked changes still wait for you.", { checked: before?.apply === "auto" }));
  const toolchains = h("textarea", { id: "toolchains", rows: "2", spellcheck: "false", placeholder: "auto",
    value: before && before.toolchains !== "default" ? before.toolchains.join("\n") : "" });
  const network = h("textarea", { id: "network", rows: "2", spellcheck: "false", placeholder: "none",
    value: before && before.network !== "none" ? before.network.join("\n") : "" });
  const perDay = h("input", { type: "number", min: "1", max: "1000", id: "per-day", value: String(before?.max_per_day ?? 50) });
  const expires = h("input", { id: "expires", autocomplete: "off", value: before ? before.expires : "never" });
  const results = h("fieldset", {},
    h("legend", {}, "What they are told about a run"),
    choice("radio", "results", "full", "Everything it reads and does", "", { checked: (before?.results ?? "full") === "full" }),
    choice("radio", "results", "redacted", "The answer and returned files only", "Of the steps, only how many and how large.", { checked: before?.results === "redacted" }));
  const budget = before?.budget ?? { minutes: 60, turns: 100, usd: 5, output_bytes: 100 * MB, network_bytes: 1000 * MB };
  const minutes = h("input", { type: "number", min: "1", max: "1440", id: "minutes", value: String(budget.minutes) });
  const turns = h("input", { type: "number", min: "1", max: "1000", id: "turns", value: String(budget.turns) });
  const usd = h("input", { type: "number", min: "0.01", max: "1000", step: "0.01", id: "usd", value: String(budget.usd) });
  const output = h("input", { type: "number", min: "0", max: "250", id: "output", value: String(Math.round(budget.output_bytes / MB)) });

  const traffic = h("input", { type: "number", min: "1", max: "1000000", id: "traffic", value: String(Math.round(budget.network_bytes / MB)) });

  const rest = h("div", { hidden: number === 0 || number === 5 },
    field("Only in these folders, one per line", folders, "Empty: only the one folder that you confirm each time you accept."),
    approval,
    apply,
    h("details", {},
      h("summary", {}, "Limits, expiry, and what they are told"),
      h("div.grid", {}, field("Tasks a day", perDay), field("Minutes for each", minutes), field("Turns of the agent", turns),
        field("US dollars for each", usd), field("Megabytes returned", output), field("Megabytes over the network", traffic),
        field("Expires", expires, "30d, 2027-01-31, or never")),
      field("Programs it sees besides the system’s own, one per line", toolchains,
        "auto (the toolchains found for a project), none, or folders and programs. Empty: as in your settings."),
      field("What its programs may reach, one per line", network,
        "Hosts, over HTTPS: a run can send them whatever it can read. packages: those named in lock files. Empty: nothing."),
      results));
  const preview = h("section.preview", { "aria-live": "polite", "aria-label": "What this would permit" });
  const element = h("div.scope", { on: { input: update, change: update } },
    h("fieldset.power", {}, h("legend", {}, `What may ${line(peer)}’s tasks do on this machine?`), radios),
    custom, rest, preview);

  function explain(each) {
    if (each.kind !== "grant" || each.number !== 3) return each.explains;
    return `${each.explains} Installed: ${each.mcp_servers.length ? each.mcp_servers.map(line).join(", ") : "none"}.`;
  }

  const picked = (name) => element.querySelector(`input[name=${name}]:checked`)?.value;
  const all = (name) => [...element.querySelectorAll(`input[name=${name}]:checked`)].map((each) => each.value);

  function chosen() {
    const option = options.choices.find((each) => String(each.number) === picked("power"));
    if (!option) return null;
    if (option.kind === "decline") return { decline: true };
    const custom = option.kind === "custom";
    const granted = custom ? all("server") : option.mcp_servers;
    const paths = folders.value.split("\n").map((each) => each.trim()).filter(Boolean);
    return {
      tools: custom ? all("tool") : option.tools,
      mcp_servers: granted.length ? granted : "none",
      paths: paths.length ? paths : "none",
      approval: picked("approval"),
      max_per_day: Number(perDay.value),
      expires: expires.value.trim() || "never",
      results: picked("results"),
      apply: picked("apply"),
      toolchains: toolchains.value.trim() ? toolchains.value.split("\n").map((each) => each.trim()).filter(Boolean) : "default",
      network: network.value.trim() ? network.value.split("\n").map((each) => each.trim()).filter(Boolean) : "none",
      budget: { minutes: Number(minutes.value), turns: Number(turns.value), usd: Number(usd.value), output_bytes: Number(output.value) * MB,
        network_bytes: Number(traffic.value) * MB },
    };
  }

  let named = { network: null, registries: [], proxied: { hosts: [] } };
  function shown() {
    if (!/\bpackages\b/.test(network.value)) return {};
    return { registries: named.network === network.value ? named.registries : [] };
  }

  const proxied = () => (named.network === network.value ? named.proxied : { hosts: [] });

  let timer = 0;
  let asked = 0;
  function update() {
    const option = picked("power");
    custom.hidden = option !== "4";
    rest.hidden = !option || option === "5";
    clearTimeout(timer);
    timer = setTimeout(show, 120);
    changed(chosen());
  }

  async function show() {
    const mine = (asked += 1);
    const now = chosen();
    const asking = network.value;
    if (!now) return;
    if (now.decline) {
      fill(preview);
      return;
    }
    if (!now.tools.length) {
      fill(preview, h("p.quiet", {}, "Pick at least one ability."));
      return;
    }
    try {
      const told = await post("/v1/page/preview", { peer, ...now });
      if (mine !== asked) return;
      named = { network: asking, registries: told.registries, proxied: told.proxied };
      fill(preview, h("h3", {}, "This would permit"), permitsList(told.permits, 4));
    } catch (error) {
      if (mine === asked) fill(preview, problem(error));
    }
  }
  if (before) timer = setTimeout(show, 0);
  return { element, chosen, shown, proxied, before };
}

export const choices = () => get("/v1/page/choices");

/** Whether a person is asked, in words. `who`: "you" or "they". */
export function askedWords(approval, who) {
  if (approval === "manual") return `${who} are asked before every step`;
  return approval === "review" ? `${who} look at what it returned before it is sent` : "nobody is asked before a step";
}
