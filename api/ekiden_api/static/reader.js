/** Keeps the shown conversation as the server has it. */
class Reader {
  #store;
  #server;
  #events;

  /** `events`: taken(), after the turns changed; missing(), when the server does not know what was to be opened. */
  constructor(store, server, events) {
    this.#store = store;
    this.#server = server;
    this.#events = events;
  }

  /** Read the conversation; what the page has of it stays when that fails. */
  async read() {
    const { conversation: shown } = this.#store;
    const kept = await this.#call(shown, "");
    if (shown !== this.#store.conversation || shown.turns.some((turn) => turn.state === "sending")) return;
    if (!(kept instanceof Refusal)) {
      if (kept.id === shown.id) shown.take(kept); // else it went on in a new one meanwhile
      this.#events.taken();
    } else if (shown.loading && kept.code === "conversation_not_found") {
      this.#events.missing();
    } else if (shown.loading && kept.retryable) {
      setTimeout(() => shown === this.#store.conversation && shown.loading && this.read(), READ_AGAIN_MS);
    }
  }

  /** Show the turns before the first that is shown. */
  async readEarlier() {
    const { conversation: shown } = this.#store;
    const first = shown.firstNumber;
    const kept = await this.#call(shown, `?before=${first}`);
    if (kept instanceof Refusal || shown.firstNumber !== first) return;
    shown.prepend(kept);
    this.#events.taken();
  }

  /** The list came: what others changed is read again. */
  onListed(items) {
    const { conversation: shown } = this.#store;
    const item = items.find(({ id }) => id === shown.id);
    if (!item || shown.loading || item.updated_ms === shown.updatedMs) return;
    const open = shown.turns.find((turn) => !isOver(turn));
    if (item.busy && item.busy === open?.job) return;
    const asExpected = shown.updatedMs === null && !item.busy && !open && item.turn_count === shown.lastNumber;
    if (asExpected) shown.updatedMs = item.updated_ms;
    else this.read();
  }

  #call(shown, query) {
    const path = `/v1/conversations/${encodeURIComponent(shown.id)}${query}`;
    return this.#server.call("GET", path).catch((refusal) => refusal);
  }
}
