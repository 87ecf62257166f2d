"""A step that was begun, and the ids it will give."""

from dataclasses import dataclass

import torch

from ekiden_worker.engine.scheduler import Chunk


@dataclass(frozen=True, slots=True)
class Flight:
    """The chunks of a step and one id for each; what a chunk gives that does not complete its sequence is nothing."""

    chunks: list[Chunk]
    ids: torch.Tensor  # [chunks], int64, on the host
    landed: torch.cuda.Event | None
    """When `ids` may be read; None: at once."""

    def wait(self) -> list[int]:
        """The ids, once the device has them. Raises what the device reports."""
        if self.landed:
            self.landed.synchronize()
        ids: list[int] = self.ids.tolist()
        return ids
