"""One answer in the making."""

from ekiden_worker.engine.interface import EngineRequest


class Sequence:
    """Ids of prompt and answer, how many of them the KV cache holds, and in which blocks. Engine thread only."""

    __slots__ = ("block_table", "cached_tokens", "computed", "first", "hashes", "ids", "prompt_tokens", "request")

    def __init__(self, request: EngineRequest) -> None:
        self.request = request
        self.prompt_tokens = len(request.prompt_ids)
        self.ids: list[int] = [*request.prompt_ids, *request.generated_ids]
        self.computed = 0
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
    def remaining(self) -> int:
        """Ids the model has not seen; 1 while decoding."""
        return len(self.ids) - self.computed
