"""Numbers of eight bits: float8_e4m3fn has a sign, four bits of exponent and three of fraction, and reaches 448."""

import torch

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max

_LEAST_CAPABILITY = 8, 9  # of a GPU whose units convert it


def lacking(device: torch.device) -> str | None:
    """Why a device cannot compute with fp8, as a clause; None: it can."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY:
        return None
    least = ".".join(map(str, _LEAST_CAPABILITY))
    return f"{torch.cuda.get_device_name(device)} has no numbers of fp8, which begin with compute capability {least}"


def to_fp8(numbers: torch.Tensor) -> torch.Tensor:
    """Rounded to the nearest; what is larger than the largest becomes the largest."""
    return numbers.clamp(-LARGEST, LARGEST).to(FP8)


def from_fp8(numbers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same numbers in a wider type; on a CPU what is not a number becomes 480."""
    if numbers.device.type != "cpu":
        return numbers.to(dtype)
    # torch converts one after the other here, in eight times the time. As a float16 of the same bits, whose exponents
    # count from -15 in place of -7, each number is 256 times too small.
    bits = numbers.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(~0x4000)
    return bits.view(torch.float16).to(dtype).mul_(256.0)
