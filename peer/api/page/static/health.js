// Whether every part of this machine works, with what fixes it; and who I am.

import { get } from "./api.js";
import { button, fill, h, problem, withCode } from "./dom.js";
import { line } from "./text.js";

export function health() {
  const checks = h("div", { "aria-live": "polite" });
  const who = h("div", {}, h("p.quiet", {}, "Loading…"));
  const again = button("Check again", () => check());

  async function check() {
    again.disabled = true;
    checks.setAttribute("aria-busy", "true");
    fill(checks, h("p.quiet", {}, "Checking every part. Testing the sandbox takes a few seconds…"));
    try {
      const [own, live] = await Promise.all([get("/v1/page/permissions"), get("/v1/doctor")]);
      const all = [...own.checks, ...live.checks];
      const broken = all.filter((each) => !each.ok).length;
      fill(checks,
        h("p", {}, broken ? h("strong", {}, broken === 1 ? "One part needs you." : `${broken} parts need you.`) : "All parts work."),
        h("ul.checks", {}, all.map((each) => h("li", { "data-ok": each.ok ? "yes" : "no" },
          h("strong", {}, each.name), h("span.badge", { "data-kind": each.ok ? "good" : "bad" }, each.ok ? "works" : "broken"),
          h("p", {}, line(each.detail)), !each.ok && each.fix ? h("p.fix", {}, "What helps: ", withCode(line(each.fix))) : null))));
    } catch (error) {
      fill(checks, problem(error));
    }
    again.disabled = false;
    checks.removeAttribute("aria-busy");
  }

  async function load() {
    try {
      const told = await get("/v1/whoami");
      fill(who, h("dl.pairs", {},
        pair("You", told.user_id), pair("This device", `${told.device_name}`), pair("Your fingerprint", told.fingerprint, "digits"),
        pair("Root key", told.root_stored), ...brokerPairs(told.brokers ?? []), pair("Agent", `${told.runtime?.name ?? ""} ${told.runtime?.version ?? ""}`),
        pair("Version", told.daemon?.version ?? "")));
    } catch (error) {
      fill(who, problem(error));
    }
  }

  function brokerPairs(brokers) {
    if (!brokers.length) return [pair("Broker", "none")];
    return brokers.map((each) => pair(each.first ? "Broker" : "Further broker",
      [each.url, each.signed_in ? "" : "not signed in", each.answers === false ? "does not answer" : ""].filter(Boolean).join(", ")));
  }

  return {
    title: "Health",
    content: [h("h1", {}, "Health"),
      h("section.card", { "aria-labelledby": "checks-title" }, h("div.head", {}, h("h2", { id: "checks-title" }, "Does everything work?"), again), checks),
      h("section.card", {}, h("h2", {}, "This device"), who)],
    ready: Promise.all([check(), load()]),
    reset: load,
    leave() {},
  };
}

function pair(name, value, kind = "") {
  return [h("dt", {}, name), h(kind ? `dd.${kind}` : "dd", {}, line(value ?? ""))];
}
