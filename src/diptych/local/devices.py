"""Devices and number formats: what the caller asked for, checked against what this machine has.

Functions import torch when they are called.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    import torch

    from ..provider import Settings

__all__ = [
    "check_device",
    "check_dtype",
    "check_settings",
    "free_memory",
    "pick_device",
    "pick_dtype",
]

_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")
_DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}


def check_device(device: str | None) -> None:
    """Raise `ConfigurationError` for what cannot be a device; needs no torch."""
    if device is not None and not _DEVICE.fullmatch(device):
        raise ConfigurationError(
            f"device={device!r} is not a device; write 'cuda', 'cuda:1', 'mps' or 'cpu', or leave it out"
        )


def check_dtype(dtype: str | None) -> None:
    """Raise `ConfigurationError` for what is no number format for weights; needs no torch."""
    if dtype is not None and dtype not in _DTYPES:
        raise ConfigurationError(
            f"dtype={dtype!r} is not one of 'float32', 'bfloat16', 'float16' (or fp32, bf16, fp16)"
        )


def check_settings(settings: Settings, speeds: Sequence[str]) -> None:
    """Raise `ConfigurationError` for settings of a local client that no machine has; no torch.

    `speeds` are the presets that the engine knows.
    """
    check_device(settings.device)
    check_dtype(settings.dtype)
    if settings.speed not in speeds:
        raise ConfigurationError(
            f"speed={settings.speed!r} is not one of {', '.join(map(repr, speeds))}"
        )


def pick_device(device: str | None) -> str:
    """The device to use: the one asked for, else the first of CUDA, MPS and CPU that is there.

    CUDA devices are numbered in the answer ("cuda" is "cuda:0"). Raises `ConfigurationError` when
    the machine does not have the one asked for.
    """
    import torch

    check_device(device)
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device is None:
        return "cuda:0" if cards else "mps" if has_mps else "cpu"
    if device.startswith("cuda"):
        number = int(device.partition(":")[2] or 0)
        if number < cards:
            return f"cuda:{number}"
    elif device == "cpu" or has_mps:
        return device
    here = [f"cuda:{number}" for number in range(cards)] + ["mps"] * has_mps + ["cpu"]
    raise ConfigurationError(f"device={device!r} is not on this machine; it has {', '.join(here)}")


def pick_dtype(dtype: str | None, device: str) -> torch.dtype:
    """The number format of the weights: the one asked for, else bfloat16 on a GPU that has it.

    CPUs get float32, on which nothing is lost; MPS gets float16.
    """
    import torch

    check_dtype(dtype)
    if dtype is not None:
        chosen: torch.dtype = getattr(torch, _DTYPES[dtype])
        return chosen
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float16 if device == "mps" else torch.float32


def free_memory(device: str) -> int:
    """Bytes that are free on `device` now; for MPS and the CPU, of the machine's memory."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
