"""The choice of ids by a kernel, which can be part of a CUDA graph: nothing of it waits for the device."""

import numpy as np
import torch

from ekiden_worker.engine.chooser import Choices, Chooser, not_greedy
from ekiden_worker.engine.inputs import Array, uploaded
from ekiden_worker.engine.kernels import sampling
from ekiden_worker.engine.sampler import COLDEST, uniform

FIELDS = sampling.FIELDS


class TritonChooser(Chooser):
    """A `Chooser` in two halves: what the kernel is told of each row, and the kernel."""

    def choose(self, logits: torch.Tensor, choices: Choices, chosen: torch.Tensor) -> None:
        """Both halves (see Chooser.choose)."""
        fields = np.zeros((len(choices), FIELDS), dtype=np.int32)
        self.fill(choices, fields)
        self.compute(logits, uploaded(fields, self._device), chosen)

    def compute(self, logits: torch.Tensor, fields: torch.Tensor, chosen: torch.Tensor) -> None:
        """Write the ids of `logits` [rows, vocab_size] to `chosen` [rows], int64; `fields` [rows, FIELDS], int32."""
        sampling.choose(logits, fields, self._seen, chosen)

    def fill(self, choices: Choices, into: Array) -> None:
        """Write what the kernel is told (see kernels.sampling.choose) into zeros, which stand for greedy rows."""
        asked = not_greedy(choices)
        if not asked:
            return
        rows, sequences = list(asked), [choice.sequence for choice in asked.values()]
        params = [sequence.request.params for sequence in sequences]
        slots = [self._row(sequence) for sequence in sequences]
        into[rows, 0] = [0 if slot is None else slot + 1 for slot in slots]
        into[rows, 1] = [min(p.top_k, self._seen.shape[1]) for p in params]
        into.view(np.float32)[rows, 2] = [p.repetition_penalty for p in params]
        draws = uniform(torch.tensor([p.seed for p in params]), torch.tensor([c.position for c in asked.values()]))
        temperatures = [max(p.temperature, COLDEST) if p.temperature else 0.0 for p in params]
        top_ps, min_ps = [p.top_p for p in params], [p.min_p for p in params]
        into[rows, 3:] = np.column_stack([temperatures, top_ps, min_ps, draws.numpy()]).view(np.int32)
