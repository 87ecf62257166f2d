/** Keeps the end of the conversation in view, but only for a reader who is there. */
class Scroller {
  #area = byId("scroller");
  #button = byId("latest");
  #following = true;
  #top = 0;

  constructor() {
    this.#area.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#button.addEventListener("click", () => {
      this.follow();
      this.#area.focus();
    });
    new ResizeObserver(() => this.update()).observe(this.#area);
  }

  /** Go to the end and stay there. */
  follow() {
    this.#following = true;
    this.update();
  }

  update() {
    if (this.#following) this.#area.scrollTop = this.#area.scrollHeight;
    this.#button.hidden = this.#following;
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#area;
    const left_px = scrollHeight - scrollTop - clientHeight;
    // Growth moves the end away, shrinking moves up to the end: only a reader goes up and away from it.
    if (scrollTop < this.#top && left_px > 1) this.#following = false;
    else if (left_px < FOLLOW_PX) this.#following = true;
    this.#top = scrollTop;
    this.#button.hidden = this.#following;
  }
}

const LINK_NAMES = { connecting: "Connecting…", online: "Connected", offline: "Reconnecting…", locked: "Key needed" };

/** What a screen reader is told: beginnings and ends, never single words of an answer. */
function announcementOf(turn) {
  if (turn.state === "failed") return turn.error.message;
  if (turn.state === "done") return `${turn.done.finish_reason === "cancelled" ? "Stopped" : "Answer"}: ${turn.answer}`;
  return turn.state === "running" ? "The answer is being written." : "";
}

/** The page: wires the parts and draws at most once a frame. */
class Page {
  #store = new Store();
  #connection = new Connection({
    onState: () => this.#draw(),
    onModels: (models) => this.#onModels(models),
    onLocked: (message) => this.#settings.open(message),
    onOpen: () => this.#chat.resume(),
    onFrame: (frame) => this.#chat.onFrame(frame),
  });
  #chat = new Chat(this.#store, this.#connection, () => this.#draw());
  #settings = new SettingsDrawer(this.#store.settings, (keyChanged) => {
    this.#store.save();
    if (keyChanged || this.#connection.state === "locked") this.#connection.start(this.#store.settings.key);
  });
  #scroller = new Scroller();
  #views = new Map(); // turn → TurnView
  #input = byId("input");
  #frame = 0;
  #said = "";

  start() {
    this.#input.value = this.#store.draft;
    this.#listen();
    this.#onInput();
    if (this.#chat.turns.length && !this.#chat.active) this.#said = announcementOf(this.#chat.turns.at(-1));
    this.#connection.start(this.#store.settings.key);
    this.#focus();
  }

  #listen() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("input", () => this.#onInput());
    this.#input.addEventListener("keydown", (event) => {
      // 229: some browsers end a composition before this event, but still mark it so.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing && !byId("settings").open) this.#chat.stop();
    });
    byId("stop").addEventListener("click", () => this.#chat.stop());
    byId("new-chat").addEventListener("click", () => this.#clear());
    for (const example of byId("examples").children) {
      example.addEventListener("click", () => this.#ask(example.textContent));
    }
  }

  #submit() {
    const question = this.#input.value;
    if (this.#chat.active || !question.trim()) return;
    this.#setInput("");
    this.#ask(question);
  }

  #ask(question) {
    this.#chat.ask(question);
    this.#scroller.follow();
    this.#focus();
    if (this.#connection.state === "locked") this.#settings.open("This server needs an API key.");
  }

  #clear() {
    this.#chat.clear();
    this.#focus();
  }

  #retry() {
    this.#chat.retry();
    this.#scroller.follow();
    this.#focus();
  }

  #edit() {
    this.#setInput([this.#chat.takeBack(), this.#input.value].filter(Boolean).join("\n"));
    this.#input.focus();
  }

  /** Ready for the next message; but a touch keyboard gives its room to the conversation. */
  #focus() {
    if (matchMedia("(any-pointer: fine)").matches) this.#input.focus();
    else document.activeElement.blur();
  }

  #setInput(text) {
    this.#input.value = text;
    this.#onInput();
  }

  #onInput() {
    this.#store.draft = this.#input.value;
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
    this.#draw();
  }

  #onModels(models) {
    const model = models.find((found) => found.default) ?? models[0];
    setText(byId("model"), model.id);
    byId("model").title = model.id;
    this.#settings.setContext(model.context_tokens);
  }

  #draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#drawTurns();
      this.#drawControls();
      this.#announce();
      this.#scroller.update();
    });
  }

  #drawTurns() {
    const turns = this.#chat.turns;
    for (const [turn, view] of this.#views) {
      if (turns.includes(turn)) continue;
      view.node.remove();
      this.#views.delete(turn);
    }
    for (const turn of turns) {
      if (!this.#views.has(turn)) this.#add(turn);
      this.#views.get(turn).update(this.#connection.state);
    }
    byId("welcome").hidden = turns.length > 0;
    byId("turns").hidden = turns.length === 0;
  }

  #add(turn) {
    const actions = { retry: () => this.#retry(), edit: () => this.#edit(), clear: () => this.#clear() };
    const view = new TurnView(turn, actions);
    this.#views.set(turn, view);
    byId("turns").append(view.node);
  }

  #drawControls() {
    const { state } = this.#connection;
    const busy = this.#chat.active !== undefined;
    const left = busy ? byId("send") : byId("stop");
    if (document.activeElement === left) this.#focus(); // a hidden button would drop the focus
    byId("send").hidden = busy;
    byId("send").disabled = !this.#input.value.trim();
    byId("stop").hidden = !busy;
    byId("link").dataset.state = state;
    setText(byId("link").firstElementChild, LINK_NAMES[state]);
  }

  #announce() {
    const last = this.#chat.turns.at(-1);
    const words = last ? announcementOf(last) : "";
    if (words === this.#said) return;
    this.#said = words;
    setText(byId("announcer"), words);
  }
}

new Page().start();
