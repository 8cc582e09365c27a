// Setting this machine up, in four steps that are computed from how it is: sign in, what may run here, people, a first task.
// And the banner that says on every view what keeps this machine from running tasks.

import { Refused, get, post, remove, seg } from "./api.js";
import { copyable, fix } from "./copy.js";
import { busy, button, byId, field, fill, h, problem, toast, withCode } from "./dom.js";
import { inviteForm, pasteForm } from "./invitations.js";
import { howMany, nameOf, people, recipients } from "./people.js";
import { changeSetting } from "./settings.js";
import { state } from "./state.js";
import { cut, duration, line, plural } from "./text.js";
import { onTold, told } from "./waiting.js";

const SKIPPED = "dispatch-setup-skipped";
const listeners = new Set();
let known = null; // as GET /v1/page/setup gives it

const skipped = () => new Set((localStorage.getItem(SKIPPED) ?? "").split(" ").filter(Boolean));
function skip(name, on = true) {
  const all = skipped();
  if (on) all.add(name);
  else all.delete(name);
  localStorage.setItem(SKIPPED, [...all].join(" "));
  tell();
}

const part = (name) => known.parts.find((each) => each.name === name);

/** The four steps: name, title, whether it is done. */
function steps() {
  return [
    ["sign-in", "Sign in", part("sign-in").done],
    ["run", "What may run here", known.can_run],
    ["people", "Invite somebody, or paste an invitation", state.hasIdentity && (howMany() > 0 || invited)],
    ["try", "Try it", state.hasIdentity && told.known && told.any],
  ];
}
let invited = false; // an invitation of ours is open

const open = () => (known ? steps().filter(([name, , done]) => !done && !skipped().has(name)) : []);

function tell() {
  drawNeeds();
  const left = open().length;
  byId("to-setup").hidden = !known || !left;
  byId("setup-left").textContent = `${left} left`;
  for (const listener of [...listeners]) listener();
}
onTold(() => known && tell());
people.addEventListener("changed", () => known && tell());

/** Read how far this machine is set up. What goes wrong is said by the view. */
export async function readSetup() {
  take(await get("/v1/page/setup"));
}
function take(now) {
  known = now;
  tell();
}

/** What keeps this machine from running tasks, as [words, what mends it]; null for nothing. */
function missing() {
  if (!known || !state.hasIdentity) return null;
  if (!part("sign-in").done) return ["You are not signed in to a broker, so contacts may not find this machine.", h("a.button", { href: "/setup?step=sign-in" }, "Sign in")];
  if (skipped().has("run") || known.can_run) return null;
  const sandbox = known.sandbox;
  if (!part("model key").done) return ["No task can run on this machine yet: its agent has no model key.", h("a.button", { href: "/setup?step=run" }, "Set the model key")];
  return [`No task can run on this machine yet: ${line(sandbox.detail)}.`,
    /^`[^`]+`$/.test(sandbox.fix) ? copyable(sandbox.fix.slice(1, -1), "Command for a terminal") : h("a.button", { href: "/setup?step=run" }, "What helps")];
}

function drawNeeds() {
  const place = byId("needs");
  const found = location.pathname === "/setup" ? null : missing();
  const words = found ? found[0] : "";
  if (place.dataset.words === words && !place.hidden === Boolean(found)) return;
  place.dataset.words = words;
  place.hidden = !found;
  fill(place, found ? h("div.notice", {}, h("p", {}, words), h("div.mend", {}, found[1],
    part("sign-in").done ? button("I only send from here", () => skip("run"), "plain") : null)) : null);
}

/** Another view is shown: the banner is on every one but the set-up itself. */
export const viewChanged = () => known && tell();

export function setup() {
  const place = h("div");
  const wrong = h("div");
  const asked = new URLSearchParams(location.search).get("step");
  let opened = asked; // the step that is open, "" for none; null is the first that is left
  let doneBefore = new Set();
  let testing = false;
  const places = new Map(); // name → {element, draw}

  const make = { "sign-in": signInStep, run: runStep, people: peopleStep, try: tryStep };

  function draw() {
    if (!known) return;
    const all = steps();
    // A step that is just done makes room for the next, unless it has more to offer.
    const isDone = new Set(all.filter(([, , each]) => each).map(([name]) => name));
    const finishedNow = opened && isDone.has(opened) && !doneBefore.has(opened);
    if (finishedNow && (opened === "sign-in" || (opened === "run" && part("projects").done))) opened = null;
    doneBefore = isDone;
    const now = (opened ??= open()[0]?.[0] ?? "");
    const done = isDone.size;
    if (!places.size) {
      fill(place, h("p.progress", {}, h("progress", { max: "4", value: 0, "aria-label": "Steps that are done" }), h("span", {})), h("ol.steps", {}, all.map(([name, title]) => step(name, title))), h("div.finished", { hidden: true }));
    }
    place.querySelector("progress").value = done;
    fill(place.querySelector(".progress span"), `${done} of 4 done`);
    for (const [name, , each] of all) places.get(name).draw(each, name === now);
    const finished = place.querySelector(".finished");
    if (finished.hidden === (open().length === 0)) {
      finished.hidden = open().length > 0;
      fill(finished, done === 4 ? h("p", {}, h("strong", {}, "This machine is set up.")) : h("p", {}, "You skipped the rest. You can do it here at any time."),
        state.hasIdentity ? h("div.actions", {}, h("a.button.primary", { href: "/inbox" }, "Go to the inbox")) : null);
    }
  }

  function step(name, title) {
    const mark = h("span.tick", {});
    const body = h("div.step-body");
    const said = h("span.hint.step-said", {});
    const toggle = h("button.step-title", { type: "button", "aria-expanded": "false", on: { click: () => {
      opened = toggle.getAttribute("aria-expanded") === "true" ? "" : name;
      draw();
    } } }, mark, h("span", {}, h("span.step-name", {}, title), said));
    const later = button("Skip for now", () => {
      skip(name);
      opened = null;
      draw();
      focusOn(open()[0]?.[0]);
    }, "plain");
    const onward = button("Continue", () => {
      opened = open()[0]?.[0] ?? "";
      draw();
      focusOn(opened);
    });
    const made = make[name]();
    fill(body, made.element, h("div.skip-step", {}, later, onward));
    const element = h("li.step", { "data-step": name }, h("h2", {}, toggle), body);
    places.set(name, { toggle, draw(isDone, isOpen) {
      const kind = isDone ? "done" : skipped().has(name) ? "skipped" : "todo";
      element.dataset.kind = kind;
      element.classList.toggle("open", isOpen);
      body.hidden = !isOpen;
      later.hidden = kind !== "todo";
      onward.hidden = kind === "todo" || !open().length;
      toggle.setAttribute("aria-expanded", String(isOpen));
      fill(mark, kind === "done" ? "✓" : String([...places.keys()].indexOf(name) + 1), h("span.unseen", {}, kind === "done" ? " done: " : kind === "skipped" ? " skipped: " : " to do: "));
      fill(said, kind === "skipped" ? "skipped" : made.said(isDone));
      if (isOpen) made.draw(isDone);
    } });
    return element;
  }

  const focusOn = (name) => (name ? places.get(name)?.toggle : byId("main"))?.focus();

  // --- sign in

  function signInStep() {
    const element = h("div");
    const trouble = h("div");
    const broker = h("input", { id: "broker", type: "url", inputmode: "url", autocomplete: "url", spellcheck: "false", placeholder: "https://broker.example", required: true });
    const email = h("input", { id: "email", type: "email", autocomplete: "email", spellcheck: "false", placeholder: "you@example.org", required: true });
    let shown = "";
    const form = h("form", { on: { submit: async (event) => {
      event.preventDefault();
      await busy(event.submitter ?? form, trouble, async () => take(await post("/v1/page/setup/sign-in", { broker: broker.value, email: known.email ? "" : email.value })));
    } } },
    h("p", {}, "A broker tells your contacts’ machines where yours is. It sees no task, no file and no result."),
    field("The broker’s address", broker, "If somebody invited you, ask them which broker they use."),
    field("Your e-mail address", email, "Others know you by it: it is your user id."),
    h("div.actions", {}, h("button.primary", { type: "submit" }, "Get a code")), trouble,
    h("details", {}, h("summary", {}, "In a terminal, or with a broker of your own"),
      h("p", {}, "This signs in without the page:"), copyable("dispatch login --broker URL", "Command for a terminal"),
      h("p", {}, "A small server of your own can be the broker:"), copyable("dispatch-rendezvous serve", "Command for a terminal")));

    function asking(now) {
      const left = h("span.due", {}, duration(now.expires_in));
      return h("div.code", {},
        h("p", {}, "Approve this device on the broker’s page. It shows this code:"),
        h("p.user-code", { "aria-label": "Code" }, now.code),
        h("div.actions", {}, brokerLink(now), button("Start over", async (event) => busy(event.currentTarget, trouble, async () => take(await remove("/v1/page/setup/sign-in"))))),
        h("p.hint", { role: "status" }, "Waiting for your approval; the code expires in ", left, ". This page continues by itself."), trouble);
    }

    return {
      element,
      said: (isDone) => (isDone ? line(part("sign-in").detail) : ""),
      draw(isDone) {
        const now = known.sign_in;
        const key = JSON.stringify([isDone, now.state, now.code, now.error, known.email]);
        if (key === shown) return;
        shown = key;
        if (isDone) fill(element, h("p", {}, "Signed in as ", h("strong", {}, line(part("sign-in").detail)), "."));
        else if (now.state === "asking") fill(element, asking(now));
        else {
          fill(trouble, now.error ? problem(now.error) : null);
          if (!broker.value) broker.value = known.broker || now.broker || "";
          if (known.email) email.value = known.email;
          email.disabled = Boolean(known.email);
          fill(element, form);
        }
      },
    };
  }

  /** A link to the broker that was typed, to no other origin; the browser opens it beside this page. */
  function brokerLink(now) {
    let url;
    try {
      url = new URL(now.address);
    } catch {
      url = null;
    }
    const same = url && /^https?:$/.test(url.protocol) && url.origin === new URL(now.broker).origin;
    if (!same) return copyable(now.address, "The broker’s page");
    const link = h("a.button.primary", {}, `Open ${url.host}`);
    link.href = url.href;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    return link;
  }

  // --- what may run here

  function runStep() {
    const element = h("div.parts");
    const [key, sandbox, projects] = [h("section.part"), h("section.part"), h("section.part")];
    const input = h("input", { id: "model-key", type: "password", autocomplete: "off", spellcheck: "false" });
    const keyTrouble = h("div");
    const roots = h("input", { id: "roots", autocomplete: "off", spellcheck: "false", placeholder: "~/code, ~/work" });
    const rootsTrouble = h("div");
    const sandboxTrouble = h("div");
    let shown = "";
    const keyForm = h("form", { on: { submit: async (event) => {
      event.preventDefault();
      await busy(event.submitter ?? keyForm, keyTrouble, async () => {
        const given = input.value;
        input.value = "";
        if (!given.trim()) throw new Refused(422, "no key was given", "paste the key");
        const now = await post("/v1/page/setup/model-key", { key: given });
        take(now);
        fill(keyTrouble, h("p.hint", { role: "status" }, now.said));
      });
    } } },
    field("The key", input, "An API key, or `Bearer TOKEN` of a gateway. It is tried at the model’s API, stays on this machine, and is not shown again; no run sees it.".replaceAll("`", "")),
    h("div.actions", {}, h("button.primary", { type: "submit" }, "Save the key")),
    h("details", {}, h("summary", {}, "In a terminal"), copyable("dispatch config set model.api_key -", "Command for a terminal")));
    const rootsForm = h("form", { on: { submit: async (event) => {
      event.preventDefault();
      await busy(event.submitter ?? rootsForm, rootsTrouble, async () => {
        await changeSetting("roots", roots.value);
        await readSetup();
      });
    } } },
    field("Folders that hold your projects, comma-separated", roots, "If a task names a project, it is looked for there. Nobody gets access to a folder that you did not grant."),
    h("div.actions", {}, h("button", { type: "submit" }, "Save")), rootsTrouble);
    fill(element, h("p", {}, "Tasks that others send you run in a sandbox on this machine, with your agent, and only after you have accepted them."), key, sandbox, projects);

    async function test() {
      if (testing || known.sandbox.state !== "possible") return;
      testing = true;
      drawSandbox();
      try {
        take(await post("/v1/page/setup/sandbox"));
      } catch (error) {
        fill(sandboxTrouble, problem(error));
      }
      testing = false;
      if (sandbox.isConnected) drawSandbox();
    }

    const mark = (ok, words, kind = "") => h("span.badge", { "data-kind": kind || (ok ? "good" : "care") }, words);

    function drawSandbox() {
      const now = known.sandbox;
      const words = { proven: "works", possible: testing ? "testing…" : "possible", impossible: "cannot be built", unknown: "unknown" }[now.state];
      fill(sandbox, h("div.head", {}, h("h3", {}, "Sandbox"), mark(now.state === "proven", words, now.state === "impossible" ? "bad" : now.state === "possible" ? "" : "")),
        h("p.hint", {}, now.state === "proven" ? `The sandbox works: ${line(now.detail)}.` : line(now.detail)),
        now.fix ? fix(now.fix) : null,
        now.state === "impossible" || now.state === "unknown" ? h("div.actions", {}, button("Look again", (event) => busy(event.currentTarget, sandboxTrouble, readSetup))) : null,
        sandboxTrouble);
    }

    return {
      element,
      said: (isDone) => (isDone ? (part("projects").done ? `model key, sandbox, ${plural(known.roots.length, "project folder", "project folders")}` : "no project folders yet") : part("model key").done ? "" : "a model key is missing"),
      draw() {
        const now = JSON.stringify([known.parts, known.sandbox]);
        if (now === shown) return;
        shown = now;
        const theKey = part("model key");
        fill(key, h("div.head", {}, h("h3", {}, "Model key"), mark(theKey.done, theKey.done ? "set" : "missing")),
          theKey.done ? h("p.hint", {}, line(theKey.detail)) : keyForm,
          theKey.done && !/none is needed/.test(theKey.detail) ? h("details", {}, h("summary", {}, "Another key"), keyForm) : null, keyTrouble);
        drawSandbox();
        const folders = part("projects");
        const named = known.roots.join(", ");
        if (folders.done && document.activeElement !== roots) roots.value = named;
        fill(projects, h("div.head", {}, h("h3", {}, "Project folders"), mark(folders.done, folders.done ? "set" : "none yet", folders.done ? "good" : "none")),
          folders.done ? h("div", { role: "status" }, known.project_folders.map((each) => h("p.hint", {}, line(`${each.folder}: ${each.words}`)))) : null, rootsForm);
        test();
      },
    };
  }

  // --- people, and a first task

  const afterSignIn = () => h("p.quiet", {}, "Sign in first.");

  function peopleStep() {
    const element = h("div");
    let shown = "";
    return {
      element,
      said: (isDone) => (told.invitations.length ? "an invitation waits for you" : !isDone ? "" : howMany() ? plural(howMany(), "contact", "contacts") : "you invited somebody"),
      draw() {
        const now = String(state.hasIdentity);
        if (now === shown) return;
        shown = now;
        if (!state.hasIdentity) {
          fill(element, afterSignIn());
          return;
        }
        fill(element, h("p", {}, "You can send tasks to people who have accepted your invitation, and receive tasks from people whose invitation you have accepted."),
          inviteForm(async () => {
            invited = true;
            tell();
          }).element,
          pasteForm(async (words) => toast(words)).element,
          h("p", {}, h("a", { href: "/invitations" }, "All invitations, and who asks you")));
      },
    };
  }

  function tryStep() {
    const element = h("div");
    let shown = "";
    return {
      element,
      said: (isDone) => (isDone ? "a task was sent or received" : ""),
      draw() {
        const whom = state.hasIdentity ? recipients().slice(0, 3) : [];
        const now = JSON.stringify([whom, state.hasIdentity]);
        if (now === shown) return;
        shown = now;
        fill(element,
          whom.length
            ? [h("p", {}, "Send somebody a task, in your own words. They are asked before anything runs."),
               h("div.actions.below", {}, whom.map(({ peer }) => h("a.button.primary", { href: `/compose?to=${seg(peer)}` }, `New dispatch to ${cut(line(nameOf(peer)), 40)}`)))]
            : h("p", {}, state.hasIdentity ? "Nobody lets you send them tasks yet." : "Without a contact, or before you have signed in:"),
          h("p", {}, withCode("`dispatch demo` in a terminal shows one dispatch from invitation to result, with nothing of yours:")),
          copyable("dispatch demo", "Command for a terminal"));
      },
    };
  }

  async function load() {
    try {
      const asked = [readSetup()];
      if (state.hasIdentity) asked.push(get("/v1/invitations").then((found) => { invited = found.sent.some((each) => each.status === "open"); }));
      await Promise.all(asked);
      tell();
    } catch (error) {
      fill(wrong, problem(error));
    }
  }
  listeners.add(draw);
  if (known) draw();
  return {
    title: "Set up",
    content: [h("h1", {}, "Set up this machine"), wrong, place],
    ready: load(),
    setup: () => readSetup().catch(() => {}),
    settings: () => readSetup().catch(() => {}),
    invitations: load,
    leave() {
      listeners.delete(draw);
    },
  };
}
