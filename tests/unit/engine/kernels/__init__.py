"""Numbers for kernels, and the device that runs them."""

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# The interpreter cuts bfloat16 off where a GPU rounds it.
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE.type == "cuda" else [])]

# ‖found − expected‖ / ‖expected‖, against float64 on the same numbers
NEAR = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}

_GENERATOR = torch.Generator().manual_seed(9)


def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """New random numbers, never the same twice in a run."""
    return torch.randn(shape, generator=_GENERATOR).to(DEVICE, dtype)
