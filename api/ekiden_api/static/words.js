const HINTS = {
  prompt_too_long: "Shorten the message, or allow a shorter answer in Settings.",
  frame_too_large: "Shorten it, or start a new chat.",
  special_tags: "Remove the tag from the message and send it again.",
  out_of_range: "Check the numbers in Settings, then send the message again.",
  conversation_busy: "Wait for that answer, then try again.",
  abandoned: "The page was away for too long. What had arrived is kept above.",
};
const CLEARER = {
  conversation_busy: "This conversation is being answered in another tab or window.",
};

/** What an unfinished turn waits for, in words; empty while text comes. */
function waitingFor(turn, link) {
  if (isOver(turn)) return "";
  if (link === "locked") return "Waiting for an API key…";
  if (link !== "online") return `Waiting for the connection…${turn.job ? " Nothing is lost." : ""}`;
  if (turn.stopping) return "Stopping…";
  if (turn.state === "sending") return "Sending…";
  if (turn.state === "parked") return "Held until it is resumed…";
  if (turn.state === "running") return turn.answer ? "" : "Reading…";
  if (turn.position > 0) return `In the queue, ${turn.position.toLocaleString("en")} ahead of you…`;
  return "Waiting for a worker…";
}

function noteOf({ moves, dropped, lost }) {
  const notes = [];
  if (lost) notes.push("the server no longer had this conversation, so it goes on as a new one");
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

/** An error in words: what happened, and what can be done. */
function problemOf({ error, failed }) {
  const hints = [failed ? "Nothing was changed." : "", HINTS[error.code] ?? ""];
  return [CLEARER[error.code] ?? error.message, hints.filter(Boolean).join(" ")];
}

/** What answering a turn anew does beyond it; `later`: how many kept turns follow. Empty: nothing. */
function effectOf(turn, later) {
  if (turn.at !== null) return "The conversation goes on from here in a new one.";
  if (later === 0) return "";
  return `Once the new answer is kept, the ${later === 1 ? "turn" : `${later} turns`} after it will be gone.`;
}

/** What a screen reader is told: beginnings and ends, never single words of an answer. */
function announcementOf(turn) {
  if (turn.error) return problemOf(turn)[0];
  const stopped = turn.done?.finish_reason === "cancelled";
  if (turn.state === "done") return `${stopped ? "Stopped" : "Answer"}: ${turn.answer}`;
  return turn.state === "running" ? "The answer is being written." : "";
}
