/** The settings drawer; nothing changes before Save. */
class SettingsDrawer {
  #dialog = byId("settings");
  #settings;

  /** `saved(keyChanged)` is called after a change. */
  constructor(settings, saved) {
    this.#settings = settings;
    byId("open-settings").addEventListener("click", () => this.open());
    byId("close-settings").addEventListener("click", () => this.#dialog.close());
    closeOnBackdrop(this.#dialog);
    this.#dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const key = this.#settings.key;
      this.#read();
      this.#dialog.close();
      saved(key !== this.#settings.key);
    });
  }

  /** `keyProblem`: why the server wants a key. */
  open(keyProblem = "") {
    if (!this.#dialog.open) {
      this.#fill();
      this.#dialog.showModal();
    }
    byId("key-problem").hidden = !keyProblem;
    setText(byId("key-problem"), keyProblem);
    byId(keyProblem ? "key" : "system").focus();
  }

  /** `contextTokens`: null while no worker told. */
  setContext(contextTokens) {
    byId("max-tokens").max = contextTokens ?? "";
    setText(byId("context"), contextTokens ? ` of ${contextTokens.toLocaleString("en")} tokens` : "");
  }

  #fill() {
    const { system, temperature, maxTokens, key } = this.#settings;
    byId("system").value = system;
    byId("temperature").value = temperature ?? "";
    byId("max-tokens").value = maxTokens ?? "";
    byId("key").value = key;
  }

  #read() {
    const number = (id) => (byId(id).value === "" ? null : byId(id).valueAsNumber);
    Object.assign(this.#settings, {
      system: byId("system").value.trim(),
      temperature: number("temperature"),
      maxTokens: number("max-tokens"),
      key: byId("key").value.trim(),
    });
  }
}
