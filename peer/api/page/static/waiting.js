// The view of all calls that wait for an answer, of every run.

import { fill, h } from "./dom.js";
import { approvalCards } from "./approval.js";
import { onWaiting, state } from "./state.js";

export function waiting() {
  const place = h("div.cards");
  const note = h("div");
  const cards = approvalCards(place, {
    showLink: true,
    changed: (count) =>
      fill(
        note,
        count === null
          ? null
          : count === 0
          ? h("div.empty", {}, h("p", {}, "Nothing waits for you."), h("p.quiet", {}, "When a run needs your answer, it is shown here."))
          : h("p.quiet", {}, count === 1 ? "One call waits. Keys 1 to 5 answer it." : `${count} calls wait. Keys 1 to 5 answer the marked one.`),
      ),
  });
  const stop = onWaiting((now) => cards.sync(now));
  return {
    title: "Waiting for you",
    content: [h("h1", {}, "Waiting for you"), note, place],
    ready: cards.sync(state.waiting),
    leave() {
      stop();
      cards.leave();
    },
  };
}
