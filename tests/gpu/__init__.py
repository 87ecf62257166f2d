"""Tests of what only a GPU shows. EKIDEN_TEST_DEVICE=cpu runs those of the engine on another device, to try them."""

import os

import pytest
import torch

DEVICE = os.environ.get("EKIDEN_TEST_DEVICE", "cuda")
ON_CUDA = DEVICE.startswith("cuda")

needs_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_CUDA and not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.timeout(300),
]
