// What a run returned and nobody has sent yet: the reply, the files and every event as they would be sent, and the choice.

import { get, post, seg } from "./api.js";
import { busy, button, choice, confirm, fill, fresh, h, problem } from "./dom.js";
import { fileList } from "./files.js";
import { factsLine } from "./outcome.js";
import { replyView } from "./reply.js";
import { cut, line } from "./text.js";
import { eventList } from "./trace.js";

const PAGE = 200;
const PARTS = [["reply", "The reply"], ["trace", "The events (they repeat the reply and the files)"], ["files", "The files"]];

/** The card of a held result. `item`: the dispatch; `decided(words, error)`: called after a decision. */
export function heldCard(item, decided) {
  const { held } = item;
  const peer = line(item.peer);
  const at = `/v1/dispatches/${seg(item.dispatch_id)}`;
  const title = fresh("held");
  const trouble = h("div");
  const events = h("div");
  const more = h("div");
  let next = 0;

  async function read() {
    const page = await get(`/v1/page/dispatches/${seg(item.dispatch_id)}/held?limit=${PAGE}&after=${next}`);
    events.append(eventList(page.events));
    next = page.next;
    fill(more, page.more ? button("Show more", (event) => busy(event.currentTarget, trouble, read), "plain") : null);
  }

  const trace = h("details", {
    on: {
      toggle: async () => {
        if (!trace.open || events.childElementCount) return;
        try {
          await read();
        } catch (error) {
          fill(events, problem(error));
        }
      },
    },
  }, h("summary", {}, `${held.events} ${held.events === 1 ? "event" : "events"} of the run, as they would be sent`), events, more);

  const parts = PARTS.filter(([name]) => name !== "files" || held.files.length).map(([name, words]) =>
    choice("checkbox", "part", name, words, "", { checked: true }));
  const actions = h("div.actions");

  function decide(work) {
    return busy(actions, trouble, async () => {
      try {
        await decided(await work());
      } catch (error) {
        if (error.code !== 409 && error.code !== 410) throw error;
        await decided("", error);
      }
    });
  }

  const send = () => decide(async () => {
    const ticked = new Set([...element.querySelectorAll("input[name=part]:checked")].map((each) => each.value));
    const without = PARTS.map(([name]) => name).filter((name) => !ticked.has(name) && (name !== "files" || held.files.length));
    await post(`${at}/release`, { without });
    return `Sent to ${peer}.`;
  });

  async function decline() {
    if (!(await confirm("Send nothing?", `${peer} is told that you declined, and nothing of what the run did or found.`, "Send nothing"))) return;
    await decide(async () => {
      await post(`${at}/decline`, {});
      return "Declined: nothing of the run is sent.";
    });
  }

  /** Leave the events out with any other part: they repeat what the run said, read and wrote. */
  function settle() {
    const boxes = [...element.querySelectorAll("input[name=part]")];
    const box = boxes.find((each) => each.value === "trace");
    box.disabled = boxes.some((each) => each !== box && !each.checked);
    if (box.disabled) box.checked = false;
  }

  fill(actions, button(`Send it to ${cut(peer, 40)}`, send, "primary"), button("Send nothing of it", decline, "danger"));
  const element = h("section.card", { "aria-labelledby": title },
    h("h2", { id: title }, "Not sent yet"),
    h("p", {}, `The run ${held.status === "completed" ? "is done" : `has ended: ${line(held.status)}`}. ${peer} knows that it has ended, and gets nothing else until you send it.`),
    held.reason ? h("p.care", {}, line(held.reason)) : null,
    factsLine(held),
    held.reply ? replyView(item.dispatch_id, held.reply) : h("p.quiet", {}, "The agent wrote no reply."),
    fileList(item.dispatch_id, "returned", held.files, "Returned files"),
    trace,
    h("fieldset", { on: { change: settle } }, h("legend", {}, "What is sent"), parts),
    actions, trouble);
  return element;
}
