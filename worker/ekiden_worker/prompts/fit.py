"""Cuts a history that does not fit: the oldest whole turns go, as few as needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from ekiden.protocol import Message
from ekiden_worker.prompts.parts import Entry, KeptAnswer, PromptFormat
from ekiden_worker.prompts.room import Room

# Of usual text in UTF-8, and what a format puts around a message; only the number of tries depends on them.
BYTES_A_TOKEN = 4
TOKENS_AROUND = 5


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits, and how many of the oldest turns it does not show."""

    ids: list[int]
    dropped_turns: int


def split_turns(entries: Sequence[Entry]) -> tuple[Message | None, list[list[Entry]]]:
    """The system message at the start, if there is one, and the turns.

    A turn is a user message and what follows it up to the next; what stands before the first belongs to its turn.
    """
    first = entries[0] if entries else None
    system = first if isinstance(first, Message) and first.role == "system" else None
    turns: list[list[Entry]] = []
    asked = False
    for entry in entries[1:] if system else entries:
        begins = isinstance(entry, Message) and entry.role == "user"
        if not turns or (begins and asked):
            turns.append([])
            asked = False
        turns[-1].append(entry)
        asked = asked or begins
    return system, turns


def fit(
    prompts: PromptFormat, entries: Sequence[Entry], room: Room, *, gone: int = 0, cut_to: int | None = None
) -> Fitted:
    """The longest prompt that leaves the answer its room. System messages and the last user message always stay.

    The `gone` oldest turns are not shown in any case. Once others have to go, the prompt is cut to `cut_to` tokens, if
    that is given and less: then the next turns fit without a new cut. The cost depends on what fits, not on what was
    sent. Entries must have been checked. Raises PromptTooLong, with the size of the shortest prompt.
    """
    candidates = _Candidates(prompts, entries)
    most = candidates.turns - gone
    shown = candidates.most_turns(room.prompt_limit, most)
    if cut_to is not None and shown < most:
        shown = candidates.most_turns(min(cut_to, room.prompt_limit), shown)
    room.answer_tokens(candidates.size(shown))
    return Fitted(candidates.ids(shown), candidates.turns - shown)


class _Candidates:
    """The prompts that show the newest one, two, three … turns, each encoded when it is asked for."""

    def __init__(self, prompts: PromptFormat, entries: Sequence[Entry]) -> None:
        self._prompts = prompts
        self._system, turns = split_turns(entries)
        self._newest = turns[:-2:-1] if prompts.single_turn else turns[::-1]
        self._encoded: dict[int, list[int]] = {0: []}
        self.turns = len(self._newest)

    def ids(self, shown: int) -> list[int]:
        """The prompt that shows so many turns."""
        if shown not in self._encoded:
            system = [self._system] if self._system else []
            dropped = (entry for turn in reversed(self._newest[shown:]) for entry in turn)
            later = [entry for entry in dropped if isinstance(entry, Message) and entry.role == "system"]
            kept = [entry for turn in reversed(self._newest[:shown]) for entry in turn]
            self._encoded[shown] = self._prompts.encode(self._prompts.parts([*system, *later, *kept]))
        return self._encoded[shown]

    def size(self, shown: int) -> int:
        """Tokens of the prompt that shows so many turns."""
        return len(self.ids(shown))

    def most_turns(self, limit: int, turns: int) -> int:
        """How many of the newest `turns` make a prompt of at most `limit` tokens; one if even that has more."""
        fits, exceeds = 0, turns + 1
        tried = min(turns, self._guess(limit))
        halve = False
        while exceeds - fits > 1:
            if self.size(tried) <= limit:
                fits = tried
            else:
                exceeds = tried
            if exceeds > turns:
                tried = min(2 * fits, turns)
            elif halve:
                tried = (fits + exceeds) // 2
            else:  # turns are about alike in size, and halving helps where they are not
                share = (limit - self.size(fits)) / (self.size(exceeds) - self.size(fits))
                tried = min(max(fits + int(share * (exceeds - fits)), fits + 1), exceeds - 1)
            halve = not halve
        return max(1, fits)

    def _guess(self, limit: int) -> int:
        """How many turns have about as many bytes as `limit` tokens; at least one."""
        room = limit * BYTES_A_TOKEN
        for shown, turn in enumerate(self._newest, 1):
            room -= sum(_bytes(entry) for entry in turn)
            if room <= 0:
                return shown
        return len(self._newest)


def _bytes(entry: Entry) -> int:
    tokens = TOKENS_AROUND + (len(entry.ids) if isinstance(entry, KeptAnswer) else 0)
    return BYTES_A_TOKEN * tokens + (len(entry.content.encode()) if isinstance(entry, Message) else 0)
