"""What NVML says of the GPU that a worker runs on; nothing where there is none, or no NVML."""

import time
from typing import Any

import structlog

from ekiden.store.types import Gpu

log = structlog.get_logger()

FRESH_S = 1.0


class GpuMeter:
    """Reads memory and utilisation at most once a second. One thread."""

    def __init__(self, device: str) -> None:
        self._handle = _handle_of(device) if device.startswith("cuda") else None
        self._read_s = float("-inf")
        self._last: Gpu | None = None

    def read(self) -> Gpu | None:
        """The GPU now, or None."""
        if self._handle is not None and time.monotonic() - self._read_s > FRESH_S:
            self._read_s = time.monotonic()
            self._last = _read(self._handle)
        return self._last


def _handle_of(device: str) -> Any:
    """The device by its UUID: NVML numbers devices otherwise than CUDA, which may not see all of them."""
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        index = torch.device(device).index
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device() if index is None else index).uuid
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except Exception as error:  # noqa: BLE001 (whatever a driver says, the worker serves without these figures)
        log.info("no_gpu_figures", device=device, error=str(error))
        return None


def _read(handle: Any) -> Gpu | None:
    import pynvml

    try:
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        utilization = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:
        return None
    return Gpu(name=str(name), memory_used=memory.used, memory_total=memory.total, utilization=utilization)
