/** What this tab shows, and its settings: they survive a reload, and other tabs do not see them. */
class Store {
  conversation = new Conversation();
  left = []; // unfinished turns of conversations that are not shown any more
  settings = { system: "", temperature: null, maxTokens: null, key: "" };
  draft = "";
  listHidden = false;
  #timer = 0;

  constructor() {
    try {
      const saved = JSON.parse(sessionStorage.getItem(STORE_KEY) ?? "{}");
      this.conversation = new Conversation(saved.conversation);
      this.left = saved.left ?? this.left;
      this.settings = { ...this.settings, ...saved.settings };
      this.draft = saved.draft ?? this.draft;
      this.listHidden = saved.listHidden ?? this.listHidden;
    } catch (error) {
      console.warn("The conversation could not be restored:", error.message);
    }
    addEventListener("pagehide", () => this.save());
  }

  saveSoon() {
    this.#timer ||= setTimeout(() => this.save(), SAVE_EVERY_MS);
  }

  save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { conversation, left, settings, draft, listHidden } = this;
    try {
      sessionStorage.setItem(STORE_KEY, JSON.stringify({ conversation, left, settings, draft, listHidden }));
    } catch (error) {
      // Storage is full or forbidden: the chat goes on, and the server keeps what it answered.
      console.warn("The conversation could not be saved:", error.message);
    }
  }
}
