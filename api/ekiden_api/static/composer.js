/** Where the next message is written, and an answer stopped. */
class Composer {
  #input = byId("input");
  #store;
  #actions;
  #blocked = false;

  /** `actions`: send(question), stop(), changed(). */
  constructor(store, actions) {
    this.#store = store;
    this.#actions = actions;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("input", () => this.#onInput());
    onEnter(this.#input, () => this.#send());
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing || event.defaultPrevented) return;
      if (!document.querySelector("dialog[open]")) actions.stop();
    });
    byId("stop").addEventListener("click", () => actions.stop());
    byId("skip").addEventListener("click", () => this.#input.focus());
    this.#input.value = store.draft;
    fitHeight(this.#input);
  }

  /** Ready for the next message; but a touch keyboard gives its room to the conversation. */
  focus() {
    if (matchMedia("(any-pointer: fine)").matches) this.#input.focus();
    else document.activeElement.blur();
  }

  /** Put a message that was taken back before what is written. */
  take(text) {
    this.#set([text, this.#input.value].filter(Boolean).join("\n"));
    this.#input.focus();
  }

  /** `busy`: an answer is under way; `blocked`: nothing can be asked now. */
  update({ busy, blocked }) {
    this.#blocked = busy || blocked;
    if (document.activeElement === byId(busy ? "send" : "stop")) this.focus(); // a hidden button drops the focus
    byId("send").hidden = busy;
    byId("send").disabled = this.#blocked || !this.#input.value.trim();
    byId("stop").hidden = !busy;
  }

  #send() {
    const question = this.#input.value;
    if (this.#blocked || !question.trim()) return;
    this.#set("");
    this.#actions.send(question);
  }

  #set(text) {
    this.#input.value = text;
    this.#onInput();
  }

  #onInput() {
    this.#store.draft = this.#input.value;
    fitHeight(this.#input);
    this.#actions.changed();
  }
}
