"""Chooses the next id of each sequence of a step, and keeps what repetition penalties need."""

from collections.abc import Sequence as AbstractSequence

import torch

from ekiden_worker.engine.sampler import penalize, sample
from ekiden_worker.engine.scheduler import Choice
from ekiden_worker.engine.sequence import Sequence

Choices = AbstractSequence[Choice | None]
"""What each row of logits is for; None: for nothing."""


class Chooser:
    """Chooses by each request's parameters, on any device. Engine thread only."""

    def __init__(self, vocab_size: int, most: int, device: torch.device) -> None:
        """For up to `most` sequences that were begun."""
        self._device = device
        self._seen = torch.zeros((most, vocab_size), dtype=torch.bool, device=device)
        """Which ids occur so far, a row for each sequence with a penalty."""
        self._rows: dict[str, int] = {}
        self._free = list(range(most))

    def choose(self, logits: torch.Tensor, choices: Choices, chosen: torch.Tensor) -> None:
        """Write an id for each row of `logits` [choices, vocab_size] to `chosen` [choices], int64."""
        chosen.copy_(logits.argmax(-1))
        asked = not_greedy(choices)
        if not asked:
            return
        index = torch.tensor(list(asked), device=self._device)
        sequences = [choice.sequence for choice in asked.values()]
        params = [sequence.request.params for sequence in sequences]
        scores = logits[index]
        if any(p.repetition_penalty != 1 for p in params):
            seen = self._seen[[self._row(sequence) or 0 for sequence in sequences]]
            penalties = torch.tensor([p.repetition_penalty for p in params], device=self._device)
            scores = penalize(scores.float(), seen, penalties)
        chosen[index] = sample(scores, params, [choice.position for choice in asked.values()])

    def remember(self, choices: Choices, chosen: torch.Tensor) -> None:
        """Count `chosen` as said. Once nothing can fail any more: a step that failed is done again.

        Nothing is proposed for a request with a penalty, so each of its choices is said.
        """
        said = [(row, choice.sequence) for row, choice in enumerate(choices) if choice and _penalized(choice.sequence)]
        if said:
            rows, at = [self._row(sequence) for _, sequence in said], [row for row, _ in said]
            where = torch.tensor([rows, at], pin_memory=self._device.type == "cuda")
            rows_there, at_there = where.to(self._device, non_blocking=True)
            self._seen[rows_there, chosen[at_there]] = True

    def forget(self, sequence: Sequence) -> None:
        """A request ended."""
        row = self._rows.pop(sequence.request.request_id, None)
        if row is not None:
            self._free.append(row)

    def _row(self, sequence: Sequence) -> int | None:
        """Its row of `seen`; None without a penalty."""
        if not _penalized(sequence):
            return None
        key = sequence.request.request_id
        if key not in self._rows:
            row = self._free[-1]
            self._seen[row] = False
            self._seen[row, torch.tensor(sequence.ids, device=self._device)] = True
            # Once it is filled: without enough memory for that the step is done again.
            self._rows[key] = self._free.pop()
        return self._rows[key]


def not_greedy(choices: Choices) -> dict[int, Choice]:
    """By row those whose id is not simply that of the largest logit."""
    return {
        row: choice
        for row, choice in enumerate(choices)
        if choice and (choice.sequence.request.params.temperature > 0 or _penalized(choice.sequence))
    }


def _penalized(sequence: Sequence) -> bool:
    return sequence.request.params.repetition_penalty != 1
