/** One question and its answer on the page. */
class TurnView {
  #turn;
  #actions;
  #text;
  #shown = 0;
  #look = "";
  #later = 0;
  #editor = null;

  /** `actions`: again(turn, message) → whether it was asked; retry(turn), takeBack(turn), create(). */
  constructor(turn, actions) {
    this.#turn = turn;
    this.#actions = actions;
    this.node = copyOf("turn-template");
    setText(this.#part(".question p"), turn.question);
    this.#text = new AnswerText(this.#part(".words"));
    copyButton(() => turn.answer, this.#part(".copy"));
    this.#part(".again").addEventListener("click", () => actions.again(turn));
    this.#part(".edit").addEventListener("click", () => this.#edit(turn.question));
    this.#part(".retry").addEventListener("click", () => actions.retry(turn));
    this.#part(".change").addEventListener("click", () => this.#change());
    this.#part(".restart").addEventListener("click", () => actions.create());
  }

  /**
   * Bring the page up to the turn's state. `busy`: an answer is under way; `later`: how many kept turns follow;
   * `last`: nothing at all follows.
   */
  update({ link, busy, later, last }) {
    const turn = this.#turn;
    const over = isOver(turn);
    const look = over && [turn.state, turn.number, turn.at, turn.error?.message, busy, later, last].join();
    if (over && look === this.#look) return;
    this.#look = look;
    this.#later = later;
    if (turn.answer.length > this.#shown) {
      this.#text.write(turn.answer.slice(this.#shown));
      this.#shown = turn.answer.length;
    }
    if (over) this.#text.end();
    this.#part(".answer").setAttribute("aria-busy", String(!over));
    this.#show(".status", waitingFor(turn, link));
    this.#show(".note", noteOf(turn));
    this.#show(".effect", turn.replaced ? effectOf(turn, turn.replaced.filter(isKept).length - 1) : "");
    this.#showFacts(turn, turn.state === "done" && (last || isKept(turn)));
    this.#showProblem(turn, last);
    for (const name of [".again", ".edit", ".retry"]) this.#part(name).disabled = busy;
  }

  #part(selector) {
    return this.node.querySelector(selector);
  }

  #show(selector, text) {
    const part = this.#part(selector);
    part.hidden = !text;
    setText(part.querySelector(":scope > span"), text);
  }

  #showFacts(turn, repeatable) {
    this.#show(".facts", factsOf(turn));
    this.#part(".facts").hidden = turn.state !== "done";
    this.#part(".copy").hidden = !turn.answer || !navigator.clipboard;
    this.#part(".again").hidden = this.#part(".edit").hidden = !repeatable;
    this.#part(".again").title = effectOf(turn, this.#later);
  }

  #showProblem(turn, last) {
    this.#part(".problem").hidden = !turn.error;
    if (!turn.error) return;
    const [what, hint] = problemOf(turn);
    setText(this.#part(".problem strong"), what);
    setText(this.#part(".problem .hint"), hint);
    this.#part(".problem .actions").hidden = !last && !turn.failed;
    this.#part(".retry").hidden = !turn.error.retryable;
    this.#part(".restart").hidden = turn.error.code !== "frame_too_large";
  }

  #change() {
    if (this.#turn.failed) this.#edit(this.#turn.failed.question);
    else this.#actions.takeBack(this.#turn);
  }

  /** Open the editor in place of the message. */
  #edit(text) {
    this.#close();
    this.#editor = copyOf("editor-template");
    const input = this.#editor.querySelector("textarea");
    const send = () => input.value.trim() && this.#actions.again(this.#turn, input.value);
    setText(this.#editor.querySelector(".effect"), effectOf(this.#turn, this.#later));
    input.value = text;
    input.addEventListener("input", () => fitHeight(input));
    onEnter(input, send);
    onEscape(this.#editor, () => this.#close());
    this.#editor.querySelector(".cancel").addEventListener("click", () => this.#close());
    this.#editor.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    this.#part(".question").hidden = true;
    this.node.prepend(this.#editor);
    fitHeight(input);
    this.#editor.scrollIntoView({ block: "nearest" });
    input.focus({ preventScroll: true });
  }

  #close() {
    if (!this.#editor) return;
    this.#editor.remove();
    this.#editor = null;
    this.#part(".question").hidden = false;
    this.#part(".edit").focus();
  }
}
