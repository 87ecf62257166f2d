"""One answer in the making."""

from collections.abc import Sequence as AbstractSequence
from typing import TYPE_CHECKING

from ekiden_worker.engine.interface import EngineRequest

if TYPE_CHECKING:
    from ekiden_worker.engine.speculation import Lookup


class Sequence:
    """Ids of prompt and answer, how many of them the KV cache holds, and in which blocks. Engine thread only.

    The cache holds what a step that was begun will have written: whatever reads it is begun later, and computed later.
    """

    __slots__ = (
        "block_table",
        "cached_tokens",
        "computed",
        "first",
        "hashes",
        "ids",
        "lookup",
        "pending",
        "prompt_tokens",
        "request",
        "row",
    )

    def __init__(self, request: EngineRequest) -> None:
        self.request = request
        self.prompt_tokens = len(request.prompt_ids)
        self.ids: list[int] = [*request.prompt_ids, *request.generated_ids]
        self.computed = 0
        self.pending = 0
        """Ids that steps under way will give for certain."""
        self.row = 0
        """Of the last step's choices: where the pending id is."""
        self.block_table: list[int] = []
        self.hashes: list[bytes] = []
        self.cached_tokens = 0
        self.first = True
        """No Output was made yet."""
        self.lookup: Lookup | None = None
        """Where its last ids occurred before; None until somebody asks."""

    @property
    def generated(self) -> int:
        """Ids of the answer so far, those of earlier attempts included."""
        return len(self.ids) - self.prompt_tokens

    @property
    def length(self) -> int:
        """Ids of prompt and answer, pending ones included."""
        return len(self.ids) + self.pending

    @property
    def remaining(self) -> int:
        """Ids the model has not seen; 1 while decoding, less while it is not known which proposed ids are right."""
        return self.length - self.computed

    def take(self, proposed: AbstractSequence[int], choices: list[int]) -> list[int]:
        """Add what a step gave, and return it: the model's choices up to a stop id or behind a wrong proposed id.

        `choices`: one more than `proposed`, each behind the ids proposed before it.
        """
        ends = (n for n, token in enumerate(choices[:-1]) if token != proposed[n] or token in self.request.stop_ids)
        ids = choices[: next(ends, len(proposed)) + 1]
        self.pending -= 1
        self.ids += ids
        if proposed:  # what the cache holds of wrong ones is written anew; 0 stays 0, where the blocks were taken
            self.computed = min(self.computed, len(self.ids) - 1)
        return ids

    @property
    def exhausted(self) -> bool:
        """The pending ids are its last ones, whatever they are."""
        return self.pending > 0 and self.generated + self.pending >= self.request.params.max_tokens
