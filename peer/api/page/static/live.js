// The one live stream of this tab: server-sent events over fetch (which can send the key), resumed where it broke off.

import { key, request, seg } from "./api.js";

const PAUSES = [200, 500, 1000, 2000, 4000];
const SILENCE = 40000; // two of the daemon's signs of life and some: then the connection is dead

export class Live extends EventTarget {
  #follow = "";
  #at = "";
  #abort = null;
  #failures = 0;
  #timer = 0;
  #silence = 0;
  #notifies = () => false;
  #said = false;

  constructor(notifies) {
    super();
    this.#notifies = notifies;
    this.online = true;
  }

  /** Begin, or begin anew with the trace of another dispatch. */
  follow(dispatchId) {
    if (this.#abort && dispatchId === this.#follow) return;
    this.#follow = dispatchId;
    this.#at = this.#at.split("-").slice(0, 2).concat("0").join("-");
    if (this.#at === "-0" || this.#at === "0") this.#at = "";
    this.restart();
  }

  /** Connect again where it was. */
  restart() {
    this.stop();
    this.#failures = 0;
    this.#run();
  }

  /** Tell the daemon anew who notifies, where that is no longer as it was told. */
  report() {
    if (this.#abort && this.#notifies() !== this.#said) this.restart();
  }

  stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#abort?.abort();
    this.#abort = null;
  }

  async #run() {
    const abort = new AbortController();
    this.#abort = abort;
    this.#said = this.#notifies();
    try {
      const query = `follow=${seg(this.#follow)}&notifies=${Number(this.#said)}`;
      const headers = this.#at ? { "last-event-id": this.#at } : {};
      const response = await request("GET", `/v1/page/stream?${query}`, { headers, signal: abort.signal });
      this.#is(true);
      this.#failures = 0;
      await this.#read(response.body.getReader(), abort);
      throw new Error("the stream ended");
    } catch (error) {
      if (abort.signal.aborted && this.#abort !== abort) return;
      if (error.code === 401 || !key.get()) return;
      this.#is(false);
      const pause = PAUSES[Math.min(this.#failures, PAUSES.length - 1)];
      this.#failures += 1;
      this.#timer = setTimeout(() => this.#run(), pause);
    } finally {
      clearTimeout(this.#silence);
    }
  }

  async #read(reader, abort) {
    const decoder = new TextDecoder();
    let rest = "";
    let event = { kind: "message", data: "" };
    const heard = () => {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => abort.abort(), SILENCE);
    };
    heard();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const text of lines) {
        if (text === "") {
          if (event.data) this.#tell(event);
          event = { kind: "message", data: "" };
        } else if (text.startsWith("event: ")) event.kind = text.slice(7);
        else if (text.startsWith("id: ")) event.id = text.slice(4);
        else if (text.startsWith("data: ")) event.data = text.slice(6);
      }
    }
  }

  #tell(event) {
    if (event.id) this.#at = event.id;
    this.dispatchEvent(new CustomEvent(event.kind, { detail: JSON.parse(event.data) }));
  }

  #is(online) {
    if (online === this.online) return;
    this.online = online;
    this.dispatchEvent(new CustomEvent("online", { detail: online }));
  }
}
