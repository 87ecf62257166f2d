"""Which ids the next step computes; knows no torch."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from ekiden_worker.engine.block_manager import BlockManager
from ekiden_worker.engine.sequence import Sequence
from ekiden_worker.engine.speculation import Speculation

LEAST_BATCHED_TOKENS = 16
_SUREST = 8  # ids of a guess that is made however full the step is


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `count` ids of a sequence, the proposed ones included; its blocks are reserved."""

    sequence: Sequence
    count: int
    completes: bool
    """After this chunk the model has seen all ids, so the next one can be sampled."""
    proposed: tuple[int, ...] = ()
    """Ids that may follow the last one, whose next ones are chosen beside its own."""

    @classmethod
    def of(cls, sequence: Sequence, count: int) -> "Chunk":
        """The chunk that follows what the sequence has computed."""
        return cls(sequence, count, count == sequence.remaining)

    def proposing(self, ids: tuple[int, ...]) -> "Chunk":
        """The same with ids that may follow."""
        return replace(self, count=self.count + len(ids), proposed=ids)

    @property
    def choices(self) -> int:
        """How many of its last rows' logits are wanted; the one of a chunk that does not complete means nothing."""
        return 1 + len(self.proposed)


class Choice(NamedTuple):
    """An id to be chosen: whose it is, and where in its sequence it will stand."""

    sequence: Sequence
    position: int


def choices_of(chunks: Iterable[Chunk]) -> Iterator[Choice | None]:
    """What each wanted row of logits is for, before the step is begun; None: for nothing."""
    for chunk in chunks:
        if not chunk.completes:
            yield None
            continue
        for number in range(chunk.choices):
            yield Choice(chunk.sequence, chunk.sequence.length + number)


@dataclass(frozen=True, slots=True)
class Budget:
    """Ids computed in one step: `most`; beside answers under way the larger of `beside` and `each` · answers.

    The latter, 0 for no such limit, is for a step that takes two or three times as long as one of the answers alone.
    Steps of more than `multiple` ids are rounded down to a multiple of it, where prompts fill them. Ids are proposed
    where answers and they are at most `proposing` rows together: up to there one more row takes little time.
    """

    most: int
    beside: int = 0
    each: int = 0
    multiple: int = 1
    proposing: int = 16

    def of_prompts(self, answers: int) -> int:
        """For prompts, beside so many answers."""
        gentle = max(self.beside, self.each * answers)
        total = min(self.most, gentle) if answers and gentle else self.most
        rounded = total // self.multiple * self.multiple
        return (rounded if rounded > answers else total) - answers


class Scheduler:
    """Continuous batching: running answers first, then chunks of prompts, then new sequences. Engine thread only."""

    def __init__(
        self, blocks: BlockManager, max_running: int, budget: Budget, speculation: Speculation | None = None
    ) -> None:
        self._blocks = blocks
        self._speculation = speculation or Speculation(0)
        self._max_running = max_running
        self.budget = budget
        # Below the two above after a step that found too little memory.
        self._room = max_running
        self._budget = budget
        self._may_propose = True
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        """Of the ids of admitted sequences, `prompt_tokens`, those that were found in the cache."""

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._room = min(self._room + 1, self._max_running)
            most = min(2 * self._budget.most, self.budget.most)
            self._budget = replace(self._budget, most=most)
            self._may_propose = True
        else:
            self.waiting.remove(sequence)
        self._blocks.release(sequence)

    def narrow(self, chunks: list[Chunk]) -> bool:
        """Take on half as much from now on: a step of these chunks found too little memory.

        Proposed ids give way first, then prompts, then the youngest answers. It widens again as sequences end. False
        when the step was as small as it gets.
        """
        if any(chunk.proposed for chunk in chunks):
            self._may_propose = False
            return True
        least = min(LEAST_BATCHED_TOKENS, self.budget.most)
        if self._budget.most > least and any(chunk.count > 1 for chunk in chunks):
            self._budget = replace(self._budget, most=max(least, self._budget.most // 2))
            return True
        if len(self.running) <= 1:
            return False
        self._room = len(self.running) // 2
        while len(self.running) > self._room:
            self._preempt_youngest()
        return True

    def schedule(self) -> list[Chunk]:
        """The next step, chunks of one id first. Empty when nothing can go on before the step under way has ended."""
        decodes = self._propose(self._decodes())
        budget = self._budget.of_prompts(len(decodes)) - sum(len(chunk.proposed) for chunk in decodes)
        prefills: list[Chunk] = []
        for sequence in list(self.running):
            if sequence.remaining > 1 and budget > 0 and (chunk := self._chunk(sequence, budget)):
                prefills.append(chunk)
                budget -= chunk.count
        while self.waiting and budget > 0 and len(self.running) < self._room:
            if not (chunk := self._admit(budget)):
                break
            prefills.append(chunk)
            budget -= chunk.count
        chunks = decodes + prefills
        # A prompt's last id alone, or the whole of a one-id prompt, is computed like a decode step. Long sequences come
        # first, so that none of them is what a GPU waits for at the end.
        return sorted(chunks, key=lambda chunk: (chunk.count > 1, -chunk.sequence.computed))

    def _decodes(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        for sequence in list(self.running):
            if sequence.remaining != 1 or sequence.exhausted or sequence not in self.running:
                continue
            while not self._blocks.grow(sequence, sequence.length):
                if self._preempt_youngest() is sequence:
                    break
            else:
                chunks.append(Chunk.of(sequence, 1))
        return [chunk for chunk in chunks if chunk.sequence in self.running]

    def _propose(self, decodes: list[Chunk]) -> list[Chunk]:
        """Let answers guess what they say next, in blocks that are free and rows that are left: the surest first.

        The more answers are in a step, the less it gains by one more id, and the surer a guess has to be.
        """
        # Half of a small step stays for prompts, which guesses that come true would keep waiting.
        room = min(self._budget.proposing, self._budget.most // 2) - len(decodes)
        if room <= 0 or not self._may_propose or not self._speculation.most:
            return decodes
        least = _SUREST * len(decodes) // self._budget.proposing
        guesses = [self._speculation.guess(chunk.sequence) for chunk in decodes]
        for number in sorted(range(len(decodes)), key=lambda number: -len(guesses[number])):
            chunk, ids = decodes[number], guesses[number][:room]
            end = chunk.sequence.length + len(ids)
            if ids and len(guesses[number]) >= least and self._blocks.grow(chunk.sequence, end):
                decodes[number] = chunk.proposing(ids)
                room -= len(ids)
        return decodes

    def _preempt_youngest(self) -> Sequence:
        """Free the blocks of the sequence that was admitted last; it starts over, its prefix perhaps still cached."""
        victim = self.running.pop()
        self._blocks.release(victim)
        self.waiting.appendleft(victim)
        self.preemptions += 1
        return victim

    def _chunk(self, sequence: Sequence, budget: int) -> Chunk | None:
        count = min(budget, sequence.remaining)
        return Chunk.of(sequence, count) if self._blocks.grow(sequence, sequence.computed + count) else None

    def _admit(self, budget: int) -> Chunk | None:
        sequence = self.waiting[0]
        if sequence.pending:
            return None  # taken out in mid-step: which ids to begin again with is not known yet
        self._blocks.reuse_prefix(sequence)
        reused = sequence.computed
        chunk = self._chunk(sequence, budget)
        if chunk is None:
            self._blocks.release(sequence)
            return None
        if sequence.first:
            sequence.cached_tokens = min(reused, sequence.prompt_tokens)
        self.prompt_tokens += len(sequence.ids)
        self.cached_tokens += reused
        self.waiting.popleft()
        self.running.append(sequence)
        return chunk
