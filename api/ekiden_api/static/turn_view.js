const HINTS = {
  prompt_too_long: "Shorten the message, allow a shorter answer in Settings, or start a new chat.",
  frame_too_large: "Shorten the message or start a new chat.",
  special_tags: "Remove the tag from the message and send it again.",
  out_of_range: "Check the numbers in Settings, then send the message again.",
  abandoned: "The page was away for too long. What had arrived is kept above.",
};
const NEEDS_NEW_CHAT = ["prompt_too_long", "frame_too_large"];

/** What an unfinished turn waits for, in words; empty while text comes. */
function waitingFor(turn, link) {
  if (isOver(turn)) return "";
  if (link === "locked") return "Waiting for an API key…";
  if (link !== "online") return `Waiting for the connection…${turn.job ? " Nothing is lost." : ""}`;
  if (turn.stopping) return "Stopping…";
  if (turn.state === "sending") return "Sending…";
  if (turn.state === "parked") return "Held by an operator…";
  if (turn.state === "running") return turn.answer ? "" : "Reading…";
  if (turn.position > 0) return `In the queue, ${turn.position.toLocaleString("en")} ahead of you…`;
  return "Waiting for a worker…";
}

function noteOf({ moves, dropped }) {
  const notes = [];
  if (moves) notes.push(moves === 1 ? "moved to another worker" : `moved to another worker ${moves} times`);
  if (dropped) notes.push(`the oldest ${dropped === 1 ? "turn" : `${dropped} turns`} no longer fit and were left out`);
  return notes.join(" · ");
}

function factsOf({ done }) {
  if (!done) return "";
  const facts = [];
  const tokens = done.usage?.completion_tokens;
  const { ttft_ms, total_ms } = done.timings ?? {};
  if (done.finish_reason === "cancelled") facts.push("stopped");
  if (done.finish_reason === "length") facts.push("cut at the length limit");
  if (tokens) facts.push(`${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`);
  if (tokens > 1 && total_ms > ttft_ms) facts.push(`${((tokens - 1) / (total_ms - ttft_ms) * 1000).toFixed(1)} tok/s`);
  if (ttft_ms != null) facts.push(`TTFT ${ttft_ms < 1000 ? `${ttft_ms} ms` : `${(ttft_ms / 1000).toFixed(1)} s`}`);
  return facts.map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · ");
}

/** One question and its answer on the page. */
class TurnView {
  #turn;
  #text;
  #shown = 0;
  #part;
  #settled = false;

  /** `actions`: retry(), edit() and clear(), for a turn that failed. */
  constructor(turn, { retry, edit, clear }) {
    this.#turn = turn;
    this.node = byId("turn-template").content.firstElementChild.cloneNode(true);
    this.#part = (selector) => this.node.querySelector(selector);
    setText(this.#part(".question p"), turn.question);
    this.#text = new AnswerText(this.#part(".words"));
    copyButton(() => turn.answer, this.#part(".copy"));
    this.#part(".retry").addEventListener("click", retry);
    this.#part(".edit").addEventListener("click", edit);
    this.#part(".restart").addEventListener("click", clear);
  }

  /** Bring the page up to the turn's state. */
  update(link) {
    if (this.#settled) return;
    const turn = this.#turn;
    const over = isOver(turn);
    if (turn.answer.length > this.#shown) {
      this.#text.write(turn.answer.slice(this.#shown));
      this.#shown = turn.answer.length;
    }
    if (over) this.#text.end();
    this.#part(".answer").setAttribute("aria-busy", String(!over));
    this.#show(".status", waitingFor(turn, link));
    this.#show(".note", noteOf(turn));
    this.#show(".facts", factsOf(turn));
    this.#part(".copy").hidden = !turn.answer || !navigator.clipboard;
    this.#showProblem(turn.error);
    this.#settled = over; // a turn that is over never changes
  }

  #show(selector, text) {
    const part = this.#part(selector);
    part.hidden = !text;
    setText(part.querySelector(":scope > span"), text);
  }

  #showProblem(error) {
    const problem = this.#part(".problem");
    problem.hidden = !error;
    if (!error) return;
    setText(problem.querySelector("strong"), error.message);
    setText(problem.querySelector(".hint"), HINTS[error.code] ?? "");
    this.#part(".retry").hidden = !error.retryable;
    this.#part(".restart").hidden = !NEEDS_NEW_CHAT.includes(error.code);
  }
}
