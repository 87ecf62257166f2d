/**
 * A question and its answer.
 * `state`: sending (not accepted yet), queued, parked, running; done or failed when it is over.
 * `number`: its place in the kept conversation, from 1; null: it is not kept there.
 * `at`: its place among the messages that the conversation began with; null: it is none of them.
 * `edit`: the message given in place of the one before. `replaced`: the turns that go once this one is kept.
 * `failed`: a later try to answer this one anew, which kept nothing. `lost`: the server had lost the conversation.
 * `attaching`: an attach is not answered yet; what comes of the job until then belongs to an earlier one.
 */
function newTurn(fields) {
  return {
    id: newId(), question: "", answer: "", state: "sending", number: null, at: null, edit: null, replaced: null,
    request: null, sent: false, job: null, attaching: false, stopping: false, position: 0, moves: 0, dropped: 0,
    cursor: 0, done: null, error: null, failed: null, lost: false, ...fields,
  };
}

const isOver = (turn) => turn.state === "done" || turn.state === "failed";
const isKept = (turn) => turn.number !== null || turn.at !== null;
const followId = (turn) => `follow.${turn.id}`;

function isAbout(frame, turn) {
  if ([turn.id, followId(turn)].includes(frame.id)) return true;
  return turn.job !== null && !turn.attaching && frame.job === turn.job;
}

/** Bring a turn up to a frame of its job; all but its end. */
function follow(turn, frame) {
  switch (frame.type) {
    case "accepted":
      Object.assign(turn, { state: "queued", job: frame.job, position: frame.position ?? 0, request: null });
      break;
    case "attached":
      turn.attaching = false;
      if (["queued", "parked", "running"].includes(frame.state)) turn.state = frame.state;
      break;
    case "queued":
      Object.assign(turn, { state: "queued", position: frame.position });
      break;
    case "parked":
      turn.state = "parked";
      break;
    case "started":
      Object.assign(turn, { state: "running", dropped: frame.dropped_turns ?? 0 });
      break;
    case "moved":
      Object.assign(turn, { state: "running", moves: turn.moves + 1 });
      break;
    case "delta":
      if (frame.cursor <= turn.cursor) break;
      Object.assign(turn, { state: "running", cursor: frame.cursor, answer: turn.answer + frame.text });
      break;
  }
}

/** The pairs of question and answer among the messages that a conversation began with. */
function seedTurns(messages) {
  const turns = [];
  messages.forEach(({ role, content }, at) => {
    if (role === "user") turns.push(newTurn({ at, question: content, state: "done" }));
    if (role === "assistant" && turns.length) turns.at(-1).answer += content;
  });
  return turns;
}

/** A turn as the server keeps it. The page's own one of the same job stays itself, so that nothing flickers. */
function keptTurn(kept, own = newTurn({ job: kept.job })) {
  const { turn: number, message: question, answer, dropped_turns: dropped, finish_reason, usage } = kept;
  const error = own.state === "done" ? own.error : null;
  const done = own.done ?? { finish_reason, usage };
  return Object.assign(own, { state: "done", number, question, answer, dropped, done, error, replaced: null });
}
