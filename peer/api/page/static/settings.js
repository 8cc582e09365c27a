// Settings: what this browser does, and what `dispatch config list` shows of this machine; what is safe to change here can be.

import { get, patch, remove } from "./api.js";
import { copyable } from "./copy.js";
import { busy, button, choice, field, fill, h, problem, toast, withCode } from "./dom.js";
import { keysOn, setKeys, showKeys } from "./keys.js";
import { askPermission, permission } from "./notify.js";
import { changes, setNotifications, state } from "./state.js";
import { line } from "./text.js";

const GROUPS = [
  ["What runs here", ["roots", "runtime", "script", "toolchains", "model.name", "model.price", "model.api_key", "model.base_url", "model.ca_file", "model.proxy"]],
  ["How you are asked", ["approval_ui", "session_events"]],
  ["Notifications away from the desk", ["notify_url", "notify_token", "notify_email", "smtp", "smtp_password"]],
  ["Connections", ["lan", "map_port", "relays", "relay_token", "listen", "port"]],
  ["Who you are", ["email", "device_name", "broker", "brokers", "token"]],
  ["What is kept", ["retention_days", "retention_mb"]],
];
const NAMES = {
  roots: "Project folders", runtime: "Agent", script: "Script of the scripted agent", toolchains: "Toolchains", "model.name": "Model", "model.price": "What the model costs",
  "model.api_key": "Model key", "model.base_url": "Address of the model’s API", "model.ca_file": "Certificate authorities for the API", "model.proxy": "HTTP proxy for the API",
  approval_ui: "Questions in an agent’s session", lan: "Local network", map_port: "Port of the router", relays: "Relays", relay_token: "Secret of your relay",
  listen: "Listens on", port: "Port of this page", email: "Your address", device_name: "Name of this device", broker: "Broker", brokers: "Further brokers",
  token: "Sign-in at the broker", retention_days: "Days kept", retention_mb: "Megabytes kept",
  session_events: "News in a session of Claude Code", notify_url: "ntfy topic", notify_token: "Token of the ntfy server", notify_email: "Mail to",
  smtp: "Mail server", smtp_password: "Password of the mail server",
};
const SWITCHES = { lan: ["on", "off"], map_port: ["on", "off"], approval_ui: ["picker", "form"] };

/** Set one setting of this machine; return {key, value}. */
export const changeSetting = (name, value) => patch("/v1/page/settings", { key: name, value });

/** Buttons that lead to the groups: an address with a fragment would be another view to the page. */
function index(groups) {
  const lead = (section) => () => {
    const heading = section.querySelector("h2");
    heading.focus({ preventScroll: true });
    section.scrollIntoView();
  };
  return h("div.tabs.index", { role: "group", "aria-label": "Groups of settings" },
    groups.map(([title, section]) => button(title, lead(section), "tab")));
}

export function settings() {
  const place = h("div", {}, h("p.quiet", {}, "Loading…"));
  const trouble = h("div");
  const setting = h("div");
  let editing = "";

  function drawNotifications() {
    const box = choice("checkbox", "notifications", "on", "Desktop notifications",
      "For a new dispatch, a call that waits, a result. They name who it is about, never what was written.",
      { checked: state.notifications === "on", on: { change: (event) => {
        const wanted = event.currentTarget.checked ? "on" : "off";
        busy(event.currentTarget, trouble, async () => {
          try {
            setNotifications((await changeSetting("notifications", wanted)).value);
            if (wanted === "on") askPermission(); // not waited for: its person may leave the browser's question open
          } finally {
            drawNotifications(); // as it is, also where that was refused
          }
        });
      } } });
    const words = { granted: "While this page is open, it shows them itself.", denied: "This browser does not let the page show them; the daemon does.",
      default: "", unsupported: "" }[permission()];
    const focused = setting.contains(document.activeElement);
    fill(setting, box, words ? h("p.hint", {}, words) : null,
      permission() === "default" && state.notifications === "on"
        ? button("Let this page show them while it is open", askPermission)
        : null);
    if (focused) setting.querySelector("input").focus();
  }
  drawNotifications();
  changes.addEventListener("notifications", drawNotifications);

  const single = choice("checkbox", "keys", "on", "Single-key shortcuts", "Such as / for search and g i for the inbox. The keys that answer a call always work.",
    { checked: keysOn(), on: { change: (event) => setKeys(event.currentTarget.checked) } });

  const out = async (event) => {
    await busy(event.currentTarget, trouble, () => remove("/v1/page/session"));
    localStorage.clear();
    location.assign("/");
  };

  function value(item) {
    if (item.secret) return item.value ? "set, not shown" : "not set";
    return item.value === "" ? "not set" : item.value.split(",").join(", ");
  }

  function one(item) {
    const body = h("div");
    const wrong = h("div");
    const title = NAMES[item.key] ?? item.key;
    const command = item.key === "brokers" ? "dispatch broker add URL" : `dispatch config set ${item.key} ${item.secret ? "-" : "VALUE"}`;
    function show() {
      const how = h("div");
      const action = item.editable
        ? h("button.plain", { type: "button", "aria-label": `Change ${title}`, on: { click: edit } }, "Change")
        : h("button.plain", { type: "button", "aria-label": `Command that changes ${title}`, "aria-expanded": "false", on: { click: (event) => {
            const open = !how.childNodes.length;
            event.currentTarget.setAttribute("aria-expanded", String(open));
            fill(how, open ? copyable(command, "Command for a terminal") : null);
          } } }, "Command");
      fill(body, h("p.setting-value", {}, h("span", { "data-set": item.value ? "yes" : null }, line(value(item))), action), how);
    }
    function edit() {
      editing = item.key;
      const options = SWITCHES[item.key];
      const control = options
        ? h("select", {}, options.map((each) => h("option", { value: each }, each)))
        : h("input", { autocomplete: "off", spellcheck: "false", placeholder: item.example || item.default });
      control.value = item.value;
      const close = () => {
        editing = "";
        fill(wrong);
        show();
        body.querySelector("button")?.focus();
      };
      const form = h("form", { on: {
        submit: async (event) => {
          event.preventDefault();
          await busy(event.submitter ?? form, wrong, async () => {
            item.value = (await changeSetting(item.key, control.value)).value;
            close();
            toast("Saved.");
          });
        },
        keydown: (event) => event.key === "Escape" && close(),
      } }, field(`New value for ${title}`, control, options ? "" : "Empty: the default."), h("div.actions", {}, h("button.primary", { type: "submit" }, "Save"), button("Cancel", close)));
      fill(body, form);
      control.focus();
    }
    show();
    return h("li", {}, h("div", {}, h("strong", {}, title), " ", h("code.hint", {}, item.key),
      h("p.hint", {}, withCode(item.about.replace(/^./, (first) => first.toUpperCase())), ".")), h("div", {}, body, wrong));
  }

  async function load() {
    if (editing) return;
    try {
      const all = new Map((await get("/v1/page/settings")).settings.map((item) => [item.key, item]));
      all.delete("notifications");
      const groups = GROUPS.map(([title, names]) => [title, names.map((name) => [all.get(name), all.delete(name)][0]).filter(Boolean)]);
      if (all.size) groups.push(["More", [...all.values()]]);
      const sections = groups.map(([title, items]) => h("section.card", {}, h("h2", { tabindex: "-1" }, title), h("ul.settings", {}, items.map(one))));
      fill(place, index(groups.map(([title], place) => [title, sections[place]])), sections);
    } catch (error) {
      fill(place, problem(error));
    }
  }

  return {
    title: "Settings",
    content: [h("h1", {}, "Settings"),
      h("section.card", {}, h("h2", {}, "This page"), setting, single,
        h("div.actions", {}, button("All shortcuts", showKeys), button("Sign out", out)), trouble),
      h("p.quiet", {}, withCode("The settings of this machine, as `dispatch config list` shows them. Settings that decide whom this machine trusts, where its key goes, or what is deleted can only be changed in a terminal.")),
      place],
    ready: load(),
    settings: load,
    reset: load,
    leave() {
      changes.removeEventListener("notifications", drawNotifications);
    },
  };
}
