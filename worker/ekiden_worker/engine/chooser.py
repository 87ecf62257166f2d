"""Chooses the next id of each sequence of a step, and keeps what repetition penalties need."""

import torch

from ekiden_worker.engine.sampler import penalize, sample
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.engine.sequence import Sequence


class Chooser:
    """Corrects greedy choices by each request's parameters, on the device. Engine thread only."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._seen: dict[str, torch.Tensor] = {}

    def choose(self, logits: torch.Tensor, chunks: list[Chunk], chosen: torch.Tensor) -> None:
        """Write over `chosen` [chunks], the ids of the largest `logits` [chunks, vocab_size], where more is asked."""
        rows = [row for row, chunk in enumerate(chunks) if chunk.completes and not _greedy(chunk.sequence)]
        if not rows:
            return
        index = torch.tensor(rows, device=self._device)
        sequences = [chunks[row].sequence for row in rows]
        params = [sequence.request.params for sequence in sequences]
        scores = logits[index]
        if any(p.repetition_penalty != 1 for p in params):
            seen = torch.stack([self._seen_by(sequence) for sequence in sequences])
            penalties = torch.tensor([p.repetition_penalty for p in params], device=self._device)
            scores = penalize(scores.float(), seen, penalties)
        chosen[index] = sample(scores, params, [sequence.length for sequence in sequences])

    def remember(self, chunks: list[Chunk], chosen: torch.Tensor) -> None:
        """Count `chosen` as said. Once nothing can fail any more: a step that failed is done again."""
        for row, chunk in enumerate(chunks):
            if chunk.completes and chunk.sequence.request.params.repetition_penalty != 1:
                self._seen_by(chunk.sequence).index_fill_(0, chosen[row : row + 1], True)

    def forget(self, sequence: Sequence) -> None:
        """A request ended."""
        self._seen.pop(sequence.request.request_id, None)

    def _seen_by(self, sequence: Sequence) -> torch.Tensor:
        """Which ids occur so far, bool [vocab_size]; kept for requests with a penalty alone."""
        key = sequence.request.request_id
        seen = self._seen.get(key)
        if seen is None:
            seen = torch.zeros(self._vocab_size, dtype=torch.bool, device=self._device)
            if sequence.request.params.repetition_penalty != 1:
                seen[torch.tensor(sequence.ids, device=self._device)] = True
                self._seen[key] = seen
        return seen


def _greedy(sequence: Sequence) -> bool:
    params = sequence.request.params
    return params.temperature == 0 and params.repetition_penalty == 1
