/**
 * What a person does with conversations. The server keeps them; the tab's copy of one is there at once after a reload,
 * and goes on in a new conversation should the server have lost it.
 */
class Chat {
  #store;
  #connection;
  #events;
  #reader;

  /** `events`: changed(); opened(); named(), when the shown one has another id; listed(), when the list is old. */
  constructor(store, server, connection, events) {
    this.#store = store;
    this.#connection = connection;
    this.#events = events;
    this.#reader = new Reader(store, server, {
      taken: () => this.#onTaken(),
      missing: () => this.open(null, { missing: true }),
    });
  }

  /** The conversation that is shown. */
  get shown() {
    return this.#store.conversation;
  }

  get turns() {
    return this.shown.turns;
  }

  /** The unfinished turn, or undefined. */
  get active() {
    return this.turns.findLast((turn) => !isOver(turn));
  }

  /** Show a kept conversation, or with null a new one. An answer under way in the one that is left goes on. */
  open(id, { missing = false } = {}) {
    this.#store.left.push(...this.turns.filter((turn) => !isOver(turn)));
    this.#store.conversation = new Conversation({ id, missing, loading: id !== null });
    if (id !== null) this.#reader.read();
    this.#events.opened();
    this.#change();
  }

  ask(question) {
    this.#begin({ question, number: this.shown.lastNumber + 1 });
  }

  /** Answer a turn anew: to its message, or to another. It and the later ones go once the new answer is kept. */
  again(turn, message = null) {
    const question = message ?? turn.question;
    const place = this.turns.indexOf(turn);
    if (!isKept(turn)) {
      this.turns.splice(place, 1);
      return this.ask(question);
    }
    const edit = question === turn.question ? null : question;
    this.#begin({ question, edit, number: turn.number, at: turn.at, replaced: this.turns.splice(place) });
  }

  /** Try again what failed. What was never accepted keeps its id, so that it cannot be answered twice. */
  retry(turn) {
    const tried = turn.failed ?? turn;
    if (tried.job) return this.again(turn, tried.edit);
    const taken = this.turns.splice(this.turns.indexOf(turn), turn.failed ? Infinity : 1);
    const place = { number: this.shown.lastNumber + 1 };
    if (turn.failed) Object.assign(place, { number: turn.number, at: turn.at, replaced: taken });
    this.turns.push({ ...tried, ...place, state: "sending", stopping: false, error: null });
    this.#send(this.turns.at(-1));
  }

  /** Take a failed question back; returns it. */
  takeBack(turn) {
    this.turns.splice(this.turns.indexOf(turn), 1);
    this.#change();
    return turn.question;
  }

  stop() {
    const turn = this.active;
    if (!turn || turn.stopping) return;
    turn.stopping = true;
    if (turn.job) this.#cancel(turn);
    else if (!turn.sent) this.#onDone(turn, { finish_reason: "cancelled" });
    this.#change();
  }

  readEarlier() {
    return this.#reader.readEarlier();
  }

  onListed(items) {
    this.#reader.onListed(items);
  }

  /** A connection opened: go on where the last one ended. */
  resume() {
    for (const turn of this.#unfinished()) {
      if (turn.job) this.#follow(turn);
      else turn.sent = this.#connection.send(turn.request);
    }
    if (this.shown.loading) this.#reader.read();
  }

  onFrame(frame) {
    const turn = this.#unfinished().find((turn) => isAbout(frame, turn));
    if (!turn) return;
    follow(turn, frame);
    if (frame.type === "accepted") this.#onAccepted(turn, frame);
    else if (frame.type === "done") this.#onDone(turn, frame);
    else if (frame.type === "error") this.#onError(turn, frame);
    this.#change();
  }

  #unfinished() {
    return [...this.turns, ...this.#store.left].filter((turn) => !isOver(turn));
  }

  #begin(fields) {
    for (const turn of this.turns) if (turn.state === "done") Object.assign(turn, { error: null, failed: null });
    const turn = newTurn(fields);
    this.turns.push(turn);
    turn.request = this.shown.request(turn, this.#store.settings);
    this.#send(turn);
  }

  #send(turn) {
    if (new TextEncoder().encode(JSON.stringify(turn.request)).length > MAX_FRAME_BYTES) {
      const message = `The ${turn.request.messages?.length > 1 ? "conversation" : "message"} is too long to be sent.`;
      this.#fail(turn, { code: "frame_too_large", message, retryable: false });
    } else {
      turn.sent = this.#connection.send(turn.request);
    }
    this.#change();
  }

  #follow(turn) {
    const { job, cursor } = turn;
    turn.attaching = true;
    turn.sent = this.#connection.send({ type: "attach", id: followId(turn), job, cursor });
    if (turn.stopping) this.#cancel(turn);
  }

  #cancel(turn) {
    this.#connection.send({ type: "cancel", id: followId(turn), job: turn.job });
  }

  #onAccepted(turn, { conversation }) {
    if (turn.stopping) this.#cancel(turn);
    if (this.turns.includes(turn)) {
      if (conversation !== this.shown.id) this.shown.begin(turn, conversation);
      this.shown.updatedMs = null;
      this.#events.named();
    }
    this.#events.listed();
  }

  #onDone(turn, { finish_reason, usage, timings }) {
    Object.assign(turn, { state: "done", done: { finish_reason, usage, timings } });
    const kept = finish_reason !== "cancelled" || usage?.completion_tokens;
    if (!kept) turn.number = turn.at = null; // it ended before its first token
    this.#onOver(turn);
  }

  #onError(turn, frame) {
    if (frame.id === followId(turn) && frame.retryable && frame.code !== "job_lost") {
      setTimeout(() => isOver(turn) || this.#follow(turn), (frame.retry_after_s ?? 1) * 1000);
    } else if (frame.code === "conversation_not_found" && this.turns.includes(turn)) {
      this.#goOn(turn);
    } else {
      this.#fail(turn, frame);
      if (frame.code === "conversation_busy") this.#reader.read();
    }
  }

  /** The server lost the conversation: begin a new one with what is shown. */
  #goOn(turn) {
    if (turn.request.conversation === this.shown.id) this.shown.id = null;
    this.#events.named();
    Object.assign(turn, { id: newId(), lost: true });
    turn.request = this.shown.request(turn, this.#store.settings);
    this.#send(turn);
  }

  #fail(turn, { code, message, retryable }) {
    Object.assign(turn, { state: "failed", number: null, at: null, error: { code, message, retryable } });
    this.#onOver(turn);
  }

  #onOver(turn) {
    this.#store.left = this.#store.left.filter((left) => left !== turn);
    if (this.turns.includes(turn)) {
      this.shown.updatedMs = null;
      if (turn.replaced && !isKept(turn)) this.shown.putBack(turn);
      turn.replaced = null;
    }
    if (turn.job) this.#events.listed();
  }

  /** The conversation was read; an answer that others asked for may be under way. */
  #onTaken() {
    this.#store.left = this.#store.left.filter((left) => !this.turns.some((turn) => turn.job === left.job));
    for (const turn of this.#unfinished()) if (!turn.sent) this.#follow(turn);
    this.#change();
  }

  #change() {
    this.#store.saveSoon();
    this.#events.changed();
  }
}
