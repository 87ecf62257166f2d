"""A step that was begun, and the ids it will give."""

from dataclasses import dataclass
from itertools import islice

import torch

from ekiden_worker.engine.scheduler import Chunk

FEW = 16  # of so many chunks one may sit out a step


@dataclass(frozen=True, slots=True)
class Flight:
    """The chunks of a step and the ids of their choices; what a chunk gives that does not complete is nothing."""

    chunks: list[Chunk]
    ids: torch.Tensor  # [choices], int64, on the host
    landed: torch.cuda.Event | None
    """When `ids` may be read; None: at once."""

    @property
    def decides_much(self) -> bool:
        """Too many sequences cannot go on before it is known which proposed ids are right: the next step is to wait."""
        return FEW * sum(bool(chunk.proposed) for chunk in self.chunks) >= len(self.chunks)

    def wait(self) -> list[list[int]]:
        """The ids of each chunk, once the device has them. Raises what the device reports."""
        if self.landed:
            self.landed.synchronize()
        ids = iter(self.ids.tolist())
        return [list(islice(ids, chunk.choices)) for chunk in self.chunks]
