"""Guesses at what an answer says next: what followed its last ids where they occurred before. Knows no torch.

Prompt-lookup decoding (Saxena 2023): code that is edited and text that is quoted repeat what the context holds. A step
computes guessed ids like those of a prompt, and what the model itself chooses behind each of them tells whether the
next one was right. So every id is the model's own choice, guessed or not.
"""

from ekiden_worker.engine.sequence import Sequence

PROPOSED = 7
"""Ids of a guess at most, by default: one request alone then computes up to eight rows a step."""

_MOST_DOUBTS = 2
_ID = (1 << 32) - 1  # the bits of an id
_READ_AT_ONCE = 2048  # ids of a context that are read in one step, 2 ms of them: a long one holds nobody up


class Lookup:
    """Where the last ids of one growing text occurred before. O(1) for each new id. Engine thread only.

    Its source is the place that the next id is expected to equal. One that foretells ids is kept; when it was wrong the
    latest place behind the last three ids is taken, or behind the last two. Whether it is right shows with every id,
    proposed or not.
    """

    __slots__ = ("_after", "_doubts", "_matched", "_new", "_read", "_source", "_two")

    def __init__(self) -> None:
        # By two ids and by three, as numbers, which take a third of the time of tuples.
        self._after: dict[int, int] = {}
        self._two = 0
        self._read = 0
        self._source: int | None = None
        self._matched = 0  # ids before the source that equal the last ones
        self._new = False  # the source has foretold nothing yet
        self._doubts = 0  # how much longer a match has to be, by what new sources were worth

    def read(self, ids: list[int]) -> bool:
        """Learn what was added to `ids`. False while there is more of it than one step has time for."""
        end = min(len(ids), self._read + _READ_AT_ONCE)
        for at in range(self._read, end):
            token = ids[at]
            self._judge(token, ids)
            three = ~(self._two << 32 | token)  # below zero, where no two ids are
            two = self._two = (self._two & _ID) << 32 | token
            if self._source is None:
                self._find(two, three)
            self._after[two] = self._after[three] = at + 1
        self._read = end
        return end == len(ids)

    def _judge(self, token: int, ids: list[int]) -> None:
        """Keep the source if it foretold the id."""
        if self._source is None:
            return
        right = ids[self._source] == token
        if self._new:
            self._doubts = max(0, self._doubts - 1) if right else min(_MOST_DOUBTS, self._doubts + 1)
        self._new = False
        if right:
            self._source += 1
            self._matched += 1
        else:
            self._source = None

    def _find(self, two: int, three: int) -> None:
        self._matched = 3 if three in self._after else 2
        self._source = self._after.get(three, self._after.get(two))
        self._new = self._source is not None

    def guess(self, ids: list[int], skip: int, most: int) -> list[int]:
        """Up to `most` ids that may follow, behind `skip` unknown ones. After `read` of all `ids`.

        The longer the match the more of them: two, four or more for a new source, unless such were often wrong.
        """
        if self._source is None:
            return []
        most = min(most, 2 * (self._matched - 1 - self._doubts))
        period = len(ids) - self._source  # a text that repeats itself up to its end is taken to go on so
        return [ids[self._source + number % period] for number in range(skip, skip + most)]


class Speculation:
    """Guesses for the sequences of one engine, and how many came true. Engine thread only."""

    def __init__(self, most: int) -> None:
        """`most` ids in a guess; 0: none are made."""
        self.most = most
        self.counts = 0, 0
        """Ids that were proposed, and those that came true: one pair, which other threads read whole."""

    def guess(self, sequence: Sequence) -> tuple[int, ...]:
        """What may follow a sequence that decodes, behind its pending id; the more ids the surer they are.

        With a repetition penalty a choice depends on the ids before it, so it cannot be made beside theirs.
        """
        params = sequence.request.params
        left = params.max_tokens - sequence.generated - sequence.pending - 1  # the step gives one more in any case
        most = min(self.most, left)
        if most <= 0 or params.repetition_penalty != 1:
            return ()
        if sequence.lookup is None:
            sequence.lookup = Lookup()
        if not sequence.lookup.read(sequence.ids):
            return ()
        return tuple(sequence.lookup.guess(sequence.ids, sequence.pending, most))

    def count(self, proposed: int, gained: int) -> None:
        """A step with so many proposed ids gave an answer so many more than the one it gives in any case."""
        before, true_before = self.counts
        self.counts = before + proposed, true_before + gained
