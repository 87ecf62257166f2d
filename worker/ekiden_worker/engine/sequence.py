"""One answer in the making."""

from ekiden_worker.engine.interface import EngineRequest


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
        """Ids that steps under way will give."""
        self.row = 0
        """Of the last step it was in."""
        self.block_table: list[int] = []
        self.hashes: list[bytes] = []
        self.cached_tokens = 0
        self.first = True
        """No Output was made yet."""

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
        """Ids the model has not seen; 1 while decoding."""
        return self.length - self.computed

    @property
    def exhausted(self) -> bool:
        """The pending ids are its last ones, whatever they are."""
        return self.pending > 0 and self.generated + self.pending >= self.request.params.max_tokens
