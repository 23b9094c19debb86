"""The weights that are loaded in this process, shared by every client and by models with equal parts.

A part (a text encoder, a VAE, a transformer) is known by what is in its files, so that two models
that ship the same text encoder hold it once. What nobody holds any more is freed. When a device has
no room for what a model needs, parts that were not used for longest go to the machine's memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["Pool", "content", "pool"]

_BLOB = re.compile(r"[0-9a-f]{64}")
_SAMPLE = 256


def content(folder: Path) -> str:
    """A name for what the safetensors files of `folder` hold: equal for equal weights.

    Made from sizes, headers and 256 bytes from the start and the middle of every tensor, so that a
    file of gigabytes takes milliseconds; a file in the Hub's cache is known by its hash already.
    """
    paths = sorted(folder.glob("*.safetensors"))
    stats = [path.stat() for path in paths]
    return _content(tuple(paths), tuple((each.st_size, each.st_mtime_ns) for each in stats))


@lru_cache(maxsize=256)
def _content(paths: tuple[Path, ...], stats: tuple[tuple[int, int], ...]) -> str:
    whole = hashlib.sha256()
    for path, (size, _) in zip(paths, stats, strict=True):
        blob = path.resolve().name
        if _BLOB.fullmatch(blob):
            whole.update(blob.encode())
            continue
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length)
            whole.update(size.to_bytes(8, "little") + header)
            for name, tensor in json.loads(header).items():
                if name == "__metadata__":
                    continue
                begin, end = tensor["data_offsets"]
                for at in (begin, (begin + end) // 2):
                    file.seek(8 + length + at)
                    whole.update(file.read(min(_SAMPLE, end - at)))
    return whole.hexdigest()


@dataclass(eq=False)
class _Part:
    value: Any
    owners: set[int] = field(default_factory=set)
    device: str = "cpu"
    used: int = 0


class Pool:
    """Parts by key. `bring` is called on the thread of the device, the others on any."""

    def __init__(self) -> None:
        self._parts: dict[Hashable, _Part] = {}
        self._gates: dict[Hashable, threading.Lock] = {}
        self._watched: set[int] = set()
        self._lock = threading.RLock()
        self._clock = 0

    def hold(self, owner: object, key: Hashable, load: Callable[[], Any]) -> Any:
        """The part named `key`, loaded if nobody holds it, and kept until `owner` leaves.

        Two that want the same part at once wait for one load; nobody else waits for it.
        """
        with self._lock:
            gate = self._gates.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                part = self._parts.get(key)
            if part is None:
                part = _Part(load())
            with self._lock:
                self._parts[key] = part
                part.owners.add(id(owner))
                self._gates.pop(key, None)
                self._watch(owner)
            return part.value

    def _watch(self, owner: object) -> None:
        """Let go of what an owner held that was thrown away without leaving."""
        if id(owner) in self._watched:
            return
        with contextlib.suppress(TypeError):  # a number, say, lives as long as it is named
            weakref.finalize(owner, self._forget, id(owner)).atexit = False
            self._watched.add(id(owner))

    def leave(self, owner: object) -> None:
        """Forget `owner`, and every part that nobody else holds."""
        self._forget(id(owner))

    def _forget(self, owner: int) -> None:
        with self._lock:
            self._watched.discard(owner)
            for key, part in list(self._parts.items()):
                part.owners.discard(owner)
                if not part.owners:
                    del self._parts[key]

    def bring(self, owner: object, device: str, room: Callable[[], int]) -> list[Hashable]:
        """Move the parts of `owner` to `device`; the keys of those that were moved off it.

        `room` tells the bytes that are free there, less what running needs. Parts of others go to
        the CPU, least recently used first, until the rest fits; when none is left to go, what does
        not fit is moved all the same, and the device says so.
        """
        with self._lock:
            self._clock += 1
            mine = [part for part in self._parts.values() if id(owner) in part.owners]
            coming = [part for part in mine if part.device != device and _movable(part.value)]
            needed = sum(size_of(part.value) for part in coming)
            gone: list[Hashable] = []
            for key, part in self._idle(device, mine):
                if needed <= room():
                    break
                part.value.to("cpu")
                part.device = "cpu"
                gone.append(key)
                _release(device)
            for part in mine:
                part.used = self._clock
                if part in coming:
                    part.value.to(device)
                    part.device = device
            return gone

    def idle(self, owner: object, device: str) -> int:
        """Bytes that `bring` could free on `device` for `owner`."""
        with self._lock:
            mine = [part for part in self._parts.values() if id(owner) in part.owners]
            return sum(size_of(part.value) for _, part in self._idle(device, mine))

    def _idle(self, device: str, mine: list[_Part]) -> Iterable[tuple[Hashable, _Part]]:
        others = [
            (key, part)
            for key, part in self._parts.items()
            if part.device == device and part not in mine and device != "cpu"
        ]
        return sorted(others, key=lambda each: each[1].used)

    def where(self) -> dict[Hashable, str]:
        """The device of every part that is held."""
        with self._lock:
            return {key: part.device for key, part in self._parts.items()}


def size_of(value: Any) -> int:
    """Bytes of the weights of a module; 0 for what is none."""
    if not _movable(value):
        return 0
    tensors = [*value.parameters(), *value.buffers()]
    return sum(each.numel() * each.element_size() for each in tensors)


def _movable(value: Any) -> bool:
    return hasattr(value, "parameters") and hasattr(value, "to")


def _release(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


_POOL = Pool()
_PROCESS = os.getpid()


def pool() -> Pool:
    """The pool of this process; a forked child starts with an empty one."""
    global _POOL, _PROCESS
    if os.getpid() != _PROCESS:
        _POOL, _PROCESS = Pool(), os.getpid()
    return _POOL
