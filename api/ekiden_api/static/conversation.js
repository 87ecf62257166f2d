/** A conversation as this tab shows it: the turns that the server keeps, and what came of others. Knows no network. */
class Conversation {
  id = null; // null: the server has not accepted it yet, or lost it
  title = "";
  model = null;
  seed = []; // the messages before the first turn
  turns = [];
  fresh = true; // nothing was asked in it yet
  updatedMs = null; // the state on the server that is shown; null: this page changed it since
  loading = false;
  missing = false; // shown in place of one that the server does not know

  constructor(fields) {
    Object.assign(this, fields);
  }

  /** The number of the last turn that is kept; 0: none is. */
  get lastNumber() {
    return this.turns.findLast((turn) => turn.number !== null)?.number ?? 0;
  }

  /** The number of the first turn that is shown, where earlier ones are kept; else null. */
  get firstNumber() {
    const first = this.turns.find((turn) => turn.number !== null)?.number ?? 1;
    return this.id !== null && first > 1 ? first : null;
  }

  /** The frame that asks for a turn's answer. */
  request(turn, { system, temperature, maxTokens }) {
    if (this.fresh) this.seed = system ? [{ role: "system", content: system }] : [];
    const params = {};
    if (temperature !== null) params.temperature = temperature;
    if (maxTokens !== null) params.max_tokens = maxTokens;
    const { id, question } = turn;
    if (this.id === null || turn.at !== null) {
      const messages = [...this.#messagesBefore(turn), { role: "user", content: question }];
      return { type: "chat", id, conversation: "new", messages, params };
    }
    if (!turn.replaced) return { type: "chat", id, conversation: this.id, message: question, params };
    return { type: "regenerate", id, conversation: this.id, turn: turn.number, message: turn.edit, params };
  }

  #messagesBefore(turn) {
    if (turn.at !== null) return this.seed.slice(0, turn.at);
    const messages = [...this.seed];
    for (const { question, answer } of this.#unseeded(turn)) {
      messages.push({ role: "user", content: question }, { role: "assistant", content: answer });
    }
    return messages;
  }

  /** The kept turns before one that the seed lacks. A question without an answer would leave two in a row. */
  #unseeded(turn) {
    const before = this.turns.slice(0, this.turns.indexOf(turn));
    return before.filter(({ at, number, answer }) => at === null && number !== null && answer);
  }

  /** The server began a conversation with this turn: what came before is the seed now. */
  begin(turn, id) {
    for (const earlier of this.#unseeded(turn)) {
      earlier.at = this.seed.length;
      this.seed.push({ role: "user", content: earlier.question }, { role: "assistant", content: earlier.answer });
    }
    if (turn.at !== null) this.seed.length = turn.at;
    for (const earlier of this.turns) earlier.number = null;
    Object.assign(turn, { number: 1, at: null, replaced: null });
    Object.assign(this, { id, fresh: false, title: "", model: null });
  }

  /** Nothing was kept of a turn: those that it was to replace stay, and know what failed. */
  putBack(turn) {
    const { replaced } = turn;
    turn.replaced = null;
    if (turn.state === "failed") Object.assign(replaced[0], { error: turn.error, failed: turn });
    this.turns.splice(this.turns.indexOf(turn), 1, ...replaced);
  }

  /** Turns that come before all that are shown. */
  prepend(kept) {
    const seed = kept.turns[0]?.turn > 1 ? [] : seedTurns(kept.messages);
    this.turns.unshift(...seed, ...kept.turns.map((turn) => keptTurn(turn)));
  }

  /** Take over what the server keeps; what this page knows beyond it stays. */
  take(kept) {
    Object.assign(this, { title: kept.title, model: kept.model, seed: kept.messages, loading: false, fresh: false });
    this.updatedMs = kept.updated_ms;
    this.turns = this.#merged(kept);
  }

  #merged(kept) {
    const first = kept.turns[0]?.turn ?? 1;
    const seeded = this.turns.filter((turn) => turn.at !== null);
    const merged = first === 1 && !seeded.length ? seedTurns(kept.messages) : seeded;
    merged.push(...this.turns.filter(({ number }) => number !== null && number < first));
    const own = new Map();
    for (const turn of this.turns.flatMap((turn) => [turn, ...(turn.replaced ?? [])])) own.set(turn.job, turn);
    for (const turn of kept.turns) merged.push(keptTurn(turn, own.get(turn.job)));
    for (const turn of this.#open(kept).filter((turn) => !merged.includes(turn))) {
      const place = merged.findIndex(({ number }) => number !== null && number >= turn.number);
      turn.replaced = place < 0 ? null : merged.splice(place);
      if (!turn.replaced) turn.number = kept.turn_count + 1;
      else if (turn.question !== turn.replaced[0].question) turn.edit = turn.question;
      merged.push(turn);
    }
    const failed = this.turns.at(-1);
    if (failed && isOver(failed) && !isKept(failed)) merged.push(failed);
    return merged;
  }

  /** The turns under way, with the one that others asked for. */
  #open({ busy, pending }) {
    const open = this.turns.filter((turn) => !isOver(turn));
    if (!pending || open.some((turn) => turn.job === busy)) return open;
    return [newTurn({ job: busy, question: pending.message, number: pending.turn, state: "queued" }), ...open];
  }
}
