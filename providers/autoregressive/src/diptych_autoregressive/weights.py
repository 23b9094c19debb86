"""Weights as files: safetensors read tensor by tensor, pickled ones converted once.

A pickled file (.pth, .pt, .ckpt) is read with `weights_only=True`, which runs no code of the file,
and written as safetensors to the user's cache; later loads read that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diptych.errors import ConfigurationError, InvalidInput
from diptych.local import devices

__all__ = ["Weights", "check_memory", "converted", "numbers_in", "shards"]

PICKLED = (".pth", ".pt", ".ckpt", ".bin")


class Weights(Mapping[str, Tensor]):
    """The tensors of a model by name, each read when it is asked for, on a device in one format.

    `rename` maps the names in the files to those that the model uses; names that it maps to None
    are left out. Integer tensors keep their type.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        device: str,
        dtype: torch.dtype,
        rename: Callable[[str], str | None] = lambda name: name,
    ) -> None:
        self._device, self._dtype = device, dtype
        self._stack = ExitStack()
        self._where: dict[str, tuple[Any, str]] = {}
        for path in paths:
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt", device="cpu"))
            except (SafetensorError, OSError) as error:
                raise InvalidInput(f"{path} is not a safetensors file: {error}") from None
            for name in file.keys():  # noqa: SIM118  # not a dict
                if (known := rename(name)) is not None:
                    self._where[known] = (file, name)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._where:
            raise InvalidInput(f"the weights have no {name}; the checkpoint is not of this family")
        file, stored = self._where[name]
        tensor: Tensor = file.get_tensor(stored)
        dtype = self._dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self._device, dtype)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it: a state dict."""
        return {name.removeprefix(prefix): self[name] for name in self if name.startswith(prefix)}


def shards(folder: Path, stem: str = "model") -> list[Path]:
    """The safetensors files of a transformers folder. Raises `InvalidInput` when there is none."""
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not all(re.fullmatch(r"[\w.-]+", name) for name in names):
            raise InvalidInput(f"{index} names files outside the folder")
        paths = [folder / name for name in names]
    else:
        paths = [folder / f"{stem}.safetensors"]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InvalidInput(
            f"{folder} has no {', '.join(missing)}; models are loaded from safetensors files only"
        )
    return paths


def converted(path: Path) -> Path:
    """`path` itself if it is safetensors, else its safetensors copy, made when there is none.

    Nested dicts become dotted names ("model.head.weight"); what is no tensor is left out.
    Raises `InvalidInput` for a file that holds more than data.
    """
    if path.suffix not in PICKLED:
        return path
    found = path.stat()
    key = f"{path.resolve()}|{found.st_size}|{found.st_mtime_ns}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    copy = user_cache_path("diptych") / "converted" / f"{path.stem}-{digest}.safetensors"
    if copy.is_file():
        return copy
    try:
        # Training scripts leave their command line beside the weights: plain attributes, no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile pickle leads to
        raise InvalidInput(
            f"{path} could not be read as weights alone ({type(error).__name__}); a file that runs "
            "code when it is loaded is not accepted"
        ) from error
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in _flat("", value)}
    if not tensors:
        raise InvalidInput(f"{path} holds no tensors")
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = copy.with_suffix(f".{os.getpid()}.part")
    save_file(tensors, part)
    part.replace(copy)  # so that a reader never sees half a file
    return copy


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), each)


def numbers_in(paths: Sequence[Path]) -> int:
    """How many numbers safetensors files hold, from their headers."""
    total = 0
    for path in paths:
        try:
            with path.open("rb") as file:
                (size,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(size, 100_000_000)))
            header.pop("__metadata__", None)
            total += sum(prod(each["shape"]) for each in header.values())
        except (ValueError, KeyError, TypeError, AttributeError, struct.error):
            raise InvalidInput(f"{path} is not a safetensors file") from None
    return total


def check_memory(ref: str, paths: Sequence[Path], device: str, dtype: torch.dtype) -> None:
    """Raise `ConfigurationError` with the figures when the weights do not fit on the device."""
    needed = numbers_in(paths) * dtype.itemsize
    free = devices.free_memory(device)
    if needed > free:
        name = str(dtype).removeprefix("torch.")
        raise ConfigurationError(
            f"{ref} takes {needed / 2**30:.1f} GiB as {name}, and {device} has {free / 2**30:.1f} GiB "
            'free; give dtype="bfloat16", another device=, or close what holds the memory'
        )
