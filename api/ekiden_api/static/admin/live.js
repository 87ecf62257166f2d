// The one WebSocket of the page. Views say what they watch; what comes is kept by topic, over every loss of it.

import { useEffect, useState } from "./html.js";
import { joinSeries } from "./series.js";
import { call, session } from "./server.js";

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 8000;
const SILENCE_MS = 8000; // the overview comes every second, so a connection this silent is dead
const STALLED_SILENCE_MS = 30_000; // while the job store is away nothing changes, and nothing is sent

const UNKNOWN = { data: null, error: null };
const NOTHING = { type: "watch", overview: true, series: null, jobs: null, job: null, drills: false, audit: false };

class Live {
  /** connecting, live, stalled (the server has no figures), or reconnecting */
  state = "connecting";
  figuresMs = null; // when there were figures last, by this machine's clock
  clockSkewMs = 0; // the store's clock less this machine's
  #topics = new Map(); // topic → { data, error }
  #parts = new Set();
  #listeners = new Set();
  #socket = null;
  #failures = 0;
  #heardMs = 0;
  #timer = 0;
  #watchTimer = 0;
  #sent = "";

  constructor() {
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    setInterval(() => this.#checkSilence(), 1000);
  }

  start() {
    if (!this.#socket) this.#connect();
  }

  /** Leave the connection, and forget what came over it. */
  stop() {
    this.#leave();
    this.#topics.clear();
    this.#setState("connecting");
  }

  topic(name) {
    return this.#topics.get(name) ?? UNKNOWN;
  }

  forget(name) {
    this.#topics.delete(name);
  }

  /** `part`: fields of the watch frame. Returns what ends the watch. */
  watch(part) {
    this.#parts.add(part);
    this.#sayWatch();
    return () => {
      this.#parts.delete(part);
      this.#sayWatch();
    };
  }

  /** Returns what ends the subscription. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #connect() {
    clearTimeout(this.#timer);
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/admin/live`);
    this.#socket = socket;
    this.#sent = "";
    this.#heardMs = Date.now();
    socket.onopen = () => this.#send();
    socket.onmessage = ({ data }) => this.#onMessage(JSON.parse(data));
    socket.onclose = () => this.#retry();
  }

  #onMessage(message) {
    this.#failures = 0;
    this.#heardMs = Date.now();
    if (message.type === "error") this.#onError(message);
    else if (message.data) this.#onData(message.type, message.data);
    this.#setState(this.topic("overview").error ? "stalled" : "live");
  }

  #onData(topic, data) {
    if (data.now_ms) this.clockSkewMs = data.now_ms - Date.now();
    if (topic === "overview") this.figuresMs = Date.now();
    const watched = this.#frame();
    if (topic === "series" && data.range !== watched.series) return; // of the range before
    if (topic === "job" && data.id !== watched.job) return;
    const kept = topic === "series" ? joinSeries(this.topic(topic).data, data) : data;
    this.#topics.set(topic, { data: kept, error: null });
  }

  #onError({ about, code, message }) {
    if (about) this.#topics.set(about, { data: this.topic(about).data, error: { code, message } });
  }

  #frame() {
    return Object.assign({}, NOTHING, ...this.#parts);
  }

  /** Views come and go together: say once what all of them watch. */
  #sayWatch() {
    clearTimeout(this.#watchTimer);
    this.#watchTimer = setTimeout(() => this.#send(), 0);
  }

  #send() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    const frame = JSON.stringify(this.#frame());
    if (frame === this.#sent) return;
    this.#sent = frame;
    this.#socket.send(frame);
  }

  /** A browser does not say why a connection failed, so ask over HTTP whether the session is lost. */
  async #retry() {
    this.#leave();
    this.#setState(this.state === "connecting" ? "connecting" : "reconnecting");
    const delay_ms = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => this.#connect(), delay_ms);
    const refusal = await call("GET", "me").then(() => null, (refusal) => refusal);
    if (refusal?.code === "unauthorized") session.onLost();
  }

  #leave() {
    clearTimeout(this.#timer);
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #checkSilence() {
    const patience_ms = this.state === "stalled" ? STALLED_SILENCE_MS : SILENCE_MS;
    if (this.#socket && Date.now() - this.#heardMs > patience_ms) this.#retry();
  }

  #hurry() {
    if (this.#socket || !this.#timer) return;
    this.#failures = 0;
    this.#connect();
  }

  #setState(state) {
    this.state = state;
    this.#tell();
  }

  #tell() {
    for (const listener of [...this.#listeners]) listener();
  }
}

export const live = new Live();

/** The data and error of a topic, and anew whenever they change. */
export function useTopic(name) {
  const [found, setFound] = useState(live.topic(name));
  useEffect(() => {
    const follow = () => setFound(live.topic(name));
    follow();
    return live.listen(follow);
  }, [name]);
  return found;
}

/** Watch `value` under a field of the watch frame as long as the view is shown. */
export function useWatch(field, value) {
  const key = JSON.stringify(value);
  useEffect(() => live.watch({ [field]: value }), [field, key]);
}

/** { state, figuresMs }; the second is of the moment when the state became what it is. */
export function useConnection() {
  const [state, setState] = useState(live.state);
  useEffect(() => live.listen(() => setState(live.state)), []);
  return { state, figuresMs: live.figuresMs };
}

/** The store's time, anew every second. */
export function useNow() {
  const [now, setNow] = useState(Date.now() + live.clockSkewMs);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now() + live.clockSkewMs), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
