"""How far apart two ways to compute the same are: what decides at start whether the faster one is used."""

import torch


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖; not a number, and so near to nothing, where one is not."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())
