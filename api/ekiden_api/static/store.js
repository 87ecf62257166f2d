/** This tab's conversation and settings: they survive a reload, and other tabs do not see them. */
class Store {
  turns = [];
  settings = { system: "", temperature: null, maxTokens: null, key: "" };
  draft = "";
  #timer = 0;

  constructor() {
    try {
      const saved = JSON.parse(sessionStorage.getItem(STORE_KEY) ?? "{}");
      this.turns = saved.turns ?? this.turns;
      this.settings = { ...this.settings, ...saved.settings };
      this.draft = saved.draft ?? this.draft;
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
    const { turns, settings, draft } = this;
    try {
      sessionStorage.setItem(STORE_KEY, JSON.stringify({ turns, settings, draft }));
    } catch (error) {
      // Storage is full or forbidden: the chat goes on, only a reload would lose it.
      console.warn("The conversation could not be saved:", error.message);
    }
  }
}
