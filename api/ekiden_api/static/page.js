const LINK_NAMES = { connecting: "Connecting…", online: "Connected", offline: "Reconnecting…", locked: "Key needed" };

const DASHBOARD_ROLES = ["viewer", "admin"];

/** The id of the conversation that the address names, or null. */
function addressed() {
  return /^#c=([\w-]{1,128})$/.exec(location.hash)?.[1] ?? null;
}

const addressOf = (id) => (id === null ? location.pathname : `#c=${id}`);

/** The page: wires the parts and draws at most once a frame. */
class Page {
  #store = new Store();
  #server = new Server();
  #connection = new Connection(this.#server, {
    onState: () => this.#draw(),
    onModels: (models) => this.#onModels(models),
    onLocked: (message) => this.#settings.open(message),
    onOpen: () => this.#onOnline(),
    onFrame: (frame) => this.#chat.onFrame(frame),
  });
  #chat = new Chat(this.#store, this.#server, this.#connection, {
    changed: () => this.#draw(),
    opened: () => this.#onOpened(),
    named: () => history.replaceState(null, "", addressOf(this.#chat.shown.id)),
    listed: () => this.#list.announce(),
  });
  #list = new ConversationList(this.#server, this.#connection, {
    changed: () => this.#draw({ list: true }),
    listed: () => this.#chat.onListed(this.#list.items),
  });
  #listView = new ListView(this.#list, this.#store, {
    create: () => this.#create(),
    removed: (id) => this.#onRemoved(id),
  });
  #settings = new SettingsDrawer(this.#store.settings, (keyChanged) => {
    this.#store.save();
    if (keyChanged) this.#list.clear();
    if (keyChanged || this.#connection.state === "locked") this.#connection.start(this.#store.settings.key);
  });
  #scroller = new Scroller();
  #composer = new Composer(this.#store, {
    send: (question) => this.#ask(question),
    stop: () => this.#chat.stop(),
    changed: () => this.#draw(),
  });
  #views = new Map(); // turn → TurnView
  #frame = 0;
  #marked; // the conversation that the list marks; undefined: the list is to be drawn
  #model = "";
  #failed; // the turn that could not be answered anew
  #opening = false;
  #said = "";

  start() {
    for (const type of ["popstate", "hashchange"]) addEventListener(type, () => this.#route());
    byId("new-chat").addEventListener("click", () => this.#create());
    byId("earlier").addEventListener("click", () => this.#showEarlier());
    for (const example of byId("examples").children) {
      example.addEventListener("click", () => this.#ask(example.textContent));
    }
    const last = this.#chat.turns.at(-1);
    if (last && isOver(last)) this.#said = announcementOf(last);
    this.#route();
    this.#connection.start(this.#store.settings.key);
    this.#composer.focus();
    this.#draw();
  }

  /** Show the conversation that the address names. */
  #route() {
    const id = addressed();
    if (id !== this.#chat.shown.id) this.#chat.open(id);
  }

  /** Begin a new conversation. */
  #create() {
    if (addressed() !== null) history.pushState(null, "", addressOf(null));
    this.#chat.open(null);
  }

  async #showEarlier() {
    await this.#chat.readEarlier();
    if (this.#chat.shown.firstNumber === null) byId("scroller").focus(); // the button goes, and the focus with it
  }

  #onRemoved(id) {
    if (id !== this.#chat.shown.id) return;
    history.replaceState(null, "", addressOf(null));
    this.#chat.open(null);
  }

  #onOpened() {
    this.#opening = true;
    if (this.#chat.shown.missing) history.replaceState(null, "", addressOf(null));
    this.#scroller.follow();
    this.#composer.focus();
  }

  #onOnline() {
    this.#chat.resume();
    this.#list.refresh();
    this.#offerDashboard();
  }

  /** For a role that may see it; who has only a key in this tab is asked for it there again. */
  async #offerDashboard() {
    const { role } = await this.#server.call("GET", "/v1/me").catch(() => ({}));
    byId("dashboard").hidden = !DASHBOARD_ROLES.includes(role);
  }

  #onModels(models) {
    const model = models.find((found) => found.default) ?? models[0];
    this.#model = model.id;
    this.#settings.setContext(model.context_tokens);
    this.#draw();
  }

  #ask(question) {
    this.#answer(() => this.#chat.ask(question));
  }

  #again(turn, message) {
    if (this.#chat.active) return;
    this.#answer(() => this.#chat.again(turn, message));
  }

  #answer(begin) {
    begin();
    this.#scroller.follow();
    this.#composer.focus();
    if (this.#connection.state === "locked") this.#settings.open("This server needs an API key.");
  }

  #draw({ list = false } = {}) {
    if (list) this.#marked = undefined;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#drawList();
      this.#drawTurns();
      this.#drawState();
      this.#announce();
      this.#scroller.update();
    });
  }

  #drawList() {
    const { id, title } = this.#chat.shown;
    const name = (id && this.#list.find(id)?.title) || title;
    document.title = name ? `${name} – Ekiden` : "Ekiden";
    if (this.#marked === id) return;
    this.#marked = id;
    this.#listView.update(id);
  }

  #drawTurns() {
    const { turns, active } = this.#chat;
    const { state: link } = this.#connection;
    const busy = active !== undefined;
    const views = new Map(turns.map((turn) => [turn, this.#views.get(turn) ?? this.#newView(turn)]));
    const prepended = turns.indexOf(this.#views.keys().next().value) > 0;
    const put = () => arrange(byId("turns"), [...views.values()].map((view) => view.node));
    this.#views = views;
    let later = 0;
    for (const turn of [...turns].reverse()) {
      views.get(turn).update({ link, busy, later, last: turn === turns.at(-1) });
      if (isKept(turn)) later++;
    }
    if (prepended) this.#scroller.keep(put);
    else put();
    const failed = turns.find((turn) => turn.failed);
    if (failed && failed !== this.#failed) this.#scroller.show(views.get(failed).node);
    this.#failed = failed;
  }

  #newView(turn) {
    return new TurnView(turn, {
      again: (of, message) => this.#again(of, message),
      retry: (of) => this.#answer(() => this.#chat.retry(of)),
      takeBack: (of) => this.#composer.take(this.#chat.takeBack(of)),
      create: () => this.#create(),
    });
  }

  #drawState() {
    const { shown, turns, active } = this.#chat;
    const { state } = this.#connection;
    const empty = turns.length === 0;
    byId("welcome").hidden = !empty || shown.loading;
    byId("missing").hidden = !shown.missing;
    byId("opening").hidden = !shown.loading;
    byId("earlier").hidden = shown.firstNumber === null;
    byId("turns").hidden = empty;
    this.#composer.update({ busy: active !== undefined, blocked: shown.loading });
    byId("link").dataset.state = state;
    setText(byId("link").firstElementChild, LINK_NAMES[state]);
    setText(byId("model"), shown.model ?? this.#model);
    byId("model").title = byId("model").textContent;
  }

  #announce() {
    const { shown, turns } = this.#chat;
    if (shown.loading) return;
    const last = turns.at(-1);
    const words = last ? announcementOf(last) : "";
    if (this.#opening) setText(byId("announcer"), last ? `Opened: ${shown.title}` : "New conversation.");
    else if (words !== this.#said) setText(byId("announcer"), words);
    this.#opening = false;
    this.#said = words;
  }
}

new Page().start();
