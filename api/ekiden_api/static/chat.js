const isOver = (turn) => turn.state === "done" || turn.state === "failed";
const followId = (turn) => `follow.${turn.id}`;

/**
 * The conversation and its one unfinished answer.
 * A turn's `state`: sending (not accepted yet), queued, parked, running; done or failed when it is over.
 */
class Chat {
  #store;
  #connection;
  #changed;

  constructor(store, connection, changed) {
    this.#store = store;
    this.#connection = connection;
    this.#changed = changed;
  }

  get turns() {
    return this.#store.turns;
  }

  /** The unfinished turn, or undefined. */
  get active() {
    const last = this.turns.at(-1);
    return last && !isOver(last) ? last : undefined;
  }

  ask(question) {
    const id = newId();
    const request = this.#request(id, question);
    const turn = {
      id, question, request, job: null, sent: false, state: "sending", stopping: false,
      position: 0, moves: 0, dropped: 0, cursor: 0, answer: "", done: null, error: null,
    };
    this.turns.push(turn);
    if (new TextEncoder().encode(JSON.stringify(request)).length > MAX_FRAME_BYTES) {
      const message = "The conversation is too long to be sent.";
      this.#fail(turn, { code: "frame_too_large", message, retryable: false });
    } else {
      turn.sent = this.#connection.send(request);
    }
    this.#change();
  }

  /** Ask the last, failed turn again. What was never accepted keeps its id, so that it cannot be answered twice. */
  retry() {
    const turn = this.turns.pop();
    if (turn.job) return this.ask(turn.question);
    const sent = this.#connection.send(turn.request);
    this.turns.push({ ...turn, sent, state: "sending", stopping: false, error: null });
    this.#change();
  }

  /** Take the last, failed turn back; returns its question. */
  takeBack() {
    const { question } = this.turns.pop();
    this.#change();
    return question;
  }

  stop() {
    const turn = this.active;
    if (!turn || turn.stopping) return;
    turn.stopping = true;
    if (turn.job) this.#cancel(turn);
    else if (!turn.sent) this.#finish(turn, { finish_reason: "cancelled" });
    this.#change();
  }

  /** Begin anew; an unfinished answer is cancelled. */
  clear() {
    this.stop();
    this.turns.length = 0;
    this.#change();
  }

  /** A connection opened: go on where the last one ended. */
  resume() {
    const turn = this.active;
    if (!turn) return;
    if (turn.job) this.#follow(turn);
    else turn.sent = this.#connection.send(turn.request);
  }

  onFrame(frame) {
    const turn = this.active;
    if (frame.type === "accepted" && frame.id !== turn?.id) {
      this.#connection.send({ type: "cancel", job: frame.job }); // of a conversation that was left meanwhile
    } else if (turn && frame.type === "error") {
      this.#onError(turn, frame);
    } else if (turn && (frame.type === "accepted" || frame.job === turn.job)) {
      this.#onOwn(turn, frame);
    }
    this.#change();
  }

  #onOwn(turn, frame) {
    switch (frame.type) {
      case "accepted":
        Object.assign(turn, { state: "queued", job: frame.job, position: frame.position ?? 0, request: null });
        if (turn.stopping) this.#cancel(turn);
        break;
      case "attached":
        if (["queued", "parked", "running"].includes(frame.state)) turn.state = frame.state;
        break;
      case "queued":
        Object.assign(turn, { state: "queued", position: frame.position });
        break;
      case "parked":
        turn.state = "parked";
        break;
      case "started":
        Object.assign(turn, { state: "running", dropped: frame.dropped_turns ?? 0 });
        break;
      case "moved":
        Object.assign(turn, { state: "running", moves: turn.moves + 1 });
        break;
      case "delta":
        if (frame.cursor <= turn.cursor) break;
        Object.assign(turn, { state: "running", cursor: frame.cursor, answer: turn.answer + frame.text });
        break;
      case "done":
        this.#finish(turn, frame);
        break;
    }
  }

  #onError(turn, frame) {
    const ofTurn = frame.id === turn.id || (frame.job && frame.job === turn.job);
    const ofFollowing = frame.id === followId(turn);
    if (!ofTurn && !ofFollowing) return;
    if (ofFollowing && frame.retryable && frame.code !== "job_lost") {
      setTimeout(() => this.active === turn && this.#follow(turn), (frame.retry_after_s ?? 1) * 1000);
    } else {
      this.#fail(turn, frame);
    }
  }

  #follow(turn) {
    this.#connection.send({ type: "attach", id: followId(turn), job: turn.job, cursor: turn.cursor });
    if (turn.stopping) this.#cancel(turn);
  }

  #cancel(turn) {
    this.#connection.send({ type: "cancel", id: followId(turn), job: turn.job });
  }

  #fail(turn, { code, message, retryable }) {
    turn.error = { code, message, retryable };
    turn.state = "failed";
  }

  #finish(turn, { finish_reason, usage, timings }) {
    turn.state = "done";
    turn.done = { finish_reason, usage, timings };
  }

  #request(id, question) {
    const { system, temperature, maxTokens } = this.#store.settings;
    const messages = system ? [{ role: "system", content: system }] : [];
    for (const turn of this.turns) {
      // A question without an answer would leave two user turns in a row, which prompt formats refuse.
      if (turn.state !== "done" || !turn.answer) continue;
      messages.push({ role: "user", content: turn.question }, { role: "assistant", content: turn.answer });
    }
    messages.push({ role: "user", content: question });
    const params = {};
    if (temperature !== null) params.temperature = temperature;
    if (maxTokens !== null) params.max_tokens = maxTokens;
    return { type: "chat", id, messages, params };
  }

  #change() {
    this.#store.saveSoon();
    this.#changed();
  }
}
