/** This user's conversations as the server lists them, the newest change first; as many as were asked for. */
class ConversationList {
  items = [];
  next = null; // the cursor of the page that follows
  known = false; // the server was asked
  problem = "";
  #server;
  #connection;
  #events;
  #channel = new BroadcastChannel("ekiden.conversations");
  #running = null;
  #following = false;
  #stale = false;
  #timer = 0;

  /** `events`: changed(); listed(), when the newest came from the server. */
  constructor(server, connection, events) {
    this.#server = server;
    this.#connection = connection;
    this.#events = events;
    this.#channel.onmessage = () => this.refresh();
    document.addEventListener("visibilitychange", () => this.#refreshInSight());
  }

  /** Another user's conversations follow. */
  clear() {
    Object.assign(this, { items: [], next: null, known: false, problem: "" });
    this.#events.changed();
  }

  find(id) {
    return this.items.find((item) => item.id === id);
  }

  /** This tab changed something: the other tabs should know too. */
  announce() {
    this.#channel.postMessage(null);
    this.refresh();
  }

  /** Ask for the newest; once more where that was wanted meanwhile. Every connection that opens asks too. */
  refresh() {
    if (this.#connection.state !== "online") return;
    this.#stale = this.#running !== null;
    this.#running ??= this.#refresh().finally(() => {
      this.#running = null;
      if (this.#stale) this.refresh();
    });
  }

  #refreshInSight() {
    if (!document.hidden) this.refresh();
  }

  async #refresh() {
    clearTimeout(this.#timer);
    const page = await this.#call("GET", `?limit=${LIST_PAGE}`);
    if (page instanceof Refusal) return;
    this.known = true;
    this.#merge(page);
    // An answer that this page does not follow ends unheard.
    if (this.items.some((item) => item.busy)) this.#timer = setTimeout(() => this.#refreshInSight(), LIST_AGAIN_MS);
    this.#events.listed();
    this.#events.changed();
  }

  /** The newest page takes the place of all that changed no longer ago than its oldest entry. */
  #merge({ data, next }) {
    const ids = new Set(data.map((item) => item.id));
    const oldest = next ? data.at(-1).updated_ms : -Infinity;
    const older = this.items.filter((item) => item.updated_ms <= oldest && !ids.has(item.id));
    if (!older.length) this.next = next;
    this.items = [...data, ...older];
  }

  /** Ask for the page that follows. */
  async more() {
    const { next } = this;
    if (next === null || this.#following) return;
    this.#following = true;
    const page = await this.#call("GET", `?limit=${LIST_PAGE}&cursor=${encodeURIComponent(next)}`);
    this.#following = false;
    if (page instanceof Refusal || this.next !== next) return;
    this.next = page.next;
    this.items.push(...page.data.filter((item) => !this.find(item.id)));
    this.#events.changed();
  }

  async rename(id, title) {
    const item = this.find(id);
    const before = item.title;
    item.title = title; // at once; the server's answer follows
    await this.#alter("PATCH", id, "The conversation could not be renamed.", { title });
    if (this.problem) item.title = before;
    this.#events.changed();
  }

  /** Delete a conversation. True: it is gone. */
  async remove(id) {
    await this.#alter("DELETE", id, "The conversation could not be deleted.");
    if (this.problem) return false;
    this.items = this.items.filter((item) => item.id !== id);
    this.#events.changed();
    return true;
  }

  async #alter(method, id, failure, body) {
    const answer = await this.#call(method, `/${encodeURIComponent(id)}`, body);
    const failed = answer instanceof Refusal && answer.code !== "conversation_not_found";
    this.problem = failed ? `${failure} ${answer.message}` : "";
    this.announce();
    this.#events.changed();
  }

  #call(method, path, body) {
    return this.#server.call(method, `/v1/conversations${path}`, body).catch((refusal) => refusal);
  }
}
