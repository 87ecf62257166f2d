/**
 * One WebSocket at a time, opened again with backoff for as long as the page lives.
 * `state`: connecting, online, offline, or locked while the server refuses the key.
 */
class Connection {
  state = "connecting";
  #server;
  #handlers;
  #socket = null;
  #checked = false; // the server answered over HTTP since a handshake last failed
  #attempt = 0;
  #failures = 0;
  #silent = false;
  #timer = 0;

  /** `handlers`: onState(), onModels(models), onLocked(message), onOpen(), onFrame(frame). */
  constructor(server, handlers) {
    this.#server = server;
    this.#handlers = handlers;
    setInterval(() => this.#watch(), SILENCE_MS);
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
  }

  /** Connect with this key, leaving an older connection. */
  start(key) {
    this.#server.key = key;
    this.#checked = false;
    this.#failures = 0;
    this.#leave();
    this.#setState("connecting");
    this.#connect();
  }

  /** True when the frame was handed to an open connection; it may still be lost. */
  send(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  async #connect() {
    clearTimeout(this.#timer);
    this.#silent = false;
    const attempt = ++this.#attempt;
    if (!this.#checked && !(await this.#check(attempt))) return;
    const { key } = this.#server;
    const protocols = key ? ["ekiden.v1", `ekiden.bearer.${key}`] : ["ekiden.v1"];
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/v1/chat`, protocols);
    this.#socket = socket;
    this.#checked = false;
    socket.onopen = () => {
      this.#checked = true;
      this.#setState("online");
      this.#handlers.onOpen();
      this.send({ type: "ping" });
    };
    socket.onmessage = ({ data }) => {
      this.#silent = false;
      this.#failures = 0;
      this.#handlers.onFrame(JSON.parse(data));
    };
    socket.onclose = () => this.#retry();
  }

  /** A browser does not say why a handshake failed, so ask over HTTP first. True: go on. */
  async #check(attempt) {
    const found = await this.#server.call("GET", "/v1/models").catch((refusal) => refusal);
    if (attempt !== this.#attempt) return false;
    if (found.code === "unauthorized") {
      this.#setState("locked");
      this.#handlers.onLocked(found.message);
    } else if (found instanceof Refusal) {
      this.#retry();
    } else {
      this.#handlers.onModels(found.data);
      return true;
    }
    return false;
  }

  #retry() {
    this.#leave();
    this.#setState("offline");
    const delay_ms = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => this.#connect(), delay_ms);
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#attempt++;
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  /** A dead network closes no socket: what stays silent after a ping is given up. */
  #watch() {
    if (!this.#socket) return;
    if (this.#silent) return this.#retry();
    this.#silent = true;
    this.send({ type: "ping" });
  }

  #hurry() {
    if (this.state !== "offline") return;
    this.#failures = 0;
    this.#connect();
  }

  #setState(state) {
    this.state = state;
    this.#handlers.onState();
  }
}
