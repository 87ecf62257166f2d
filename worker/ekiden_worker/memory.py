"""The prompt of a job: of its messages, or of the turns that its conversation keeps.

A kept conversation is remembered as ids. The next prompt is the last one, the ids that were generated, and the new
turn: it extends what the prefix cache holds, and no answer is encoded again. Only the shown fragment of a token that a
stop sequence cut becomes new ids. A history that does not fit is cut, which makes a new beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ekiden.errors import ConversationNotFound
from ekiden.memory import KeptTurn, Memory, StoredPrompt
from ekiden.protocol import JobRequest, Message
from ekiden_worker.prompts import Entry, KeptAnswer, Room, fit, split_turns
from ekiden_worker.runtime import Runtime
from ekiden_worker.text import kept_part


@dataclass(frozen=True, slots=True)
class Prompt:
    """`ids` is all of it; `stored` what the store keeps of it and of the rules for the answer's text."""

    ids: list[int]
    stored: StoredPrompt


def build_prompt(request: JobRequest, memory: Memory | None, runtime: Runtime) -> Prompt:
    """The prompt of a job's first attempt. Raises EkidenError for messages the format refuses or that do not fit."""
    room = Room(runtime.engine.context_tokens, request.max_tokens)
    prompt = _again(request, memory, room) or _new(request, memory, room, runtime)
    stop, replace = [*request.stop, *runtime.prompts.stops], list(runtime.replace)
    return Prompt(prompt.ids, msgspec.structs.replace(prompt.stored, stop=stop, replace=replace))


def stored_prompt(stored: StoredPrompt, request: JobRequest, memory: Memory | None) -> Prompt:
    """The prompt that an earlier attempt built. Raises ConversationNotFound when what it follows on is gone."""
    turns = memory.kept_turns() if memory else []
    return Prompt(whole_ids(turns[:-1] if request.same_prompt else turns, stored), stored)


def whole_ids(turns: Sequence[KeptTurn], prompt: StoredPrompt) -> list[int]:
    """All ids of a prompt that may follow on `turns`. Raises ConversationNotFound when these do not reach its begin."""
    pieces = [prompt.ids]
    for turn in reversed(turns):
        if prompt.kept is None:
            break
        pieces += [_answer_ids(turn)[: prompt.kept], turn.prompt.ids]
        prompt = turn.prompt
    if prompt.kept is not None:
        raise ConversationNotFound("The conversation was deleted.")
    return [token_id for piece in reversed(pieces) for token_id in piece]


def _again(request: JobRequest, memory: Memory | None, room: Room) -> Prompt | None:
    """The prompt of the turn that is to be answered again, if that was asked for and its answer has room."""
    if not (memory and request.same_prompt):
        return None
    *turns, replaced = memory.kept_turns()
    prompt = Prompt(whole_ids(turns, replaced.prompt), replaced.prompt)
    return prompt if len(prompt.ids) <= room.prompt_limit else None


def _new(request: JobRequest, memory: Memory | None, room: Room, runtime: Runtime) -> Prompt:
    seed, turns = (memory.seed_messages(), memory.kept_turns()) if memory else ([], [])
    if request.same_prompt:
        turns = turns[:-1]
    messages = runtime.rules.apply([*seed, *request.messages])
    runtime.prompts.check(messages)
    single_turn = runtime.rules.single_turn or runtime.prompts.single_turn
    if turns and not single_turn:
        prompt = _extended(messages, turns, runtime)
        return prompt if len(prompt.ids) <= room.prompt_limit else _cut(messages, turns, room, runtime)
    fitted = fit(runtime.prompts, messages, room)
    first_turn = memory.turn if memory and single_turn else 1
    dropped = 0 if runtime.prompts.single_turn else fitted.dropped_turns
    return Prompt(fitted.ids, StoredPrompt(fitted.ids, None, first_turn, dropped))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is remembered of an answer: `generated` ids as they came, then those of the text of a token that was cut."""

    ids: list[int]
    generated: int
    ended: bool


def _remembered(turn: KeptTurn, runtime: Runtime) -> _Answer:
    ids = _answer_ids(turn)
    kept = kept_part(runtime.vocabulary, ids, turn.prompt.stop, finish_reason=turn.finish_reason)
    fragment = runtime.prompts.continuation(kept.tail) if kept.tail else []
    ended = not fragment and kept.count > 0 and ids[kept.count - 1] == runtime.prompts.turn_end()
    return _Answer([*ids[: kept.count], *fragment], kept.count, ended)


def _answer_ids(turn: KeptTurn) -> list[int]:
    return [record.token_id for record in turn.records]


def _extended(messages: Sequence[Message], turns: Sequence[KeptTurn], runtime: Runtime) -> Prompt:
    """The last prompt, what is kept of its answer, and the new message."""
    last, answer = turns[-1].prompt, _remembered(turns[-1], runtime)
    system = messages[0] if messages[0].role == "system" else None
    following = runtime.prompts.following(system, messages[-1], ended=answer.ended)
    fragment = answer.ids[answer.generated :]
    added = [*fragment, *runtime.prompts.encode(following)]
    ids = [*whole_ids(turns[:-1], last), *answer.ids[: answer.generated], *added]
    retokenized = last.retokenized_tokens + len(fragment)
    return Prompt(ids, StoredPrompt(added, answer.generated, last.first_turn, last.dropped_turns, retokenized))


def _cut(messages: Sequence[Message], turns: Sequence[KeptTurn], room: Room, runtime: Runtime) -> Prompt:
    """A new beginning without the oldest turns; kept answers stay the ids they were.

    It is cut to half of the room, so that the next turns extend it again instead of each beginning anew.
    """
    last = turns[-1].prompt
    answers = [_remembered(turn, runtime) for turn in turns]
    *seed, message = messages
    # What the seed ends with and nobody answered, a greeting for one, belongs to the first kept turn.
    turns_of_seed = len(split_turns(messages)[1]) - 1
    gone = last.dropped_turns if last.first_turn == 1 else turns_of_seed + last.first_turn - 1
    entries: list[Entry] = [*seed]
    entries += [Message("user", "")] * (last.first_turn - 1)  # turns that are gone only count
    for turn, answer in zip(turns, answers, strict=True):
        entries.append(runtime.rules.replaced(Message("user", turn.message)))
        entries.append(KeptAnswer(tuple(answer.ids), answer.ended))
    fitted = fit(runtime.prompts, [*entries, message], room, gone=gone, cut_to=room.prompt_limit // 2)
    first_turn = max(1, fitted.dropped_turns - turns_of_seed + 1)
    shown = answers[first_turn - last.first_turn :]
    retokenized = sum(len(answer.ids) - answer.generated for answer in shown)
    return Prompt(fitted.ids, StoredPrompt(fitted.ids, None, first_turn, fitted.dropped_turns, retokenized))
