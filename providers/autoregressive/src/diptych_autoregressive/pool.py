"""Loaded models of this process, shared by the clients that use the same one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from .family import Model

__all__ = ["Key", "borrow", "give_back"]

Key = tuple[Path, str | None, str, str, str]
"""Folder, weight file, device, number format, speed."""

_LOCK = threading.Lock()
_MODELS: dict[Key, Model] = {}
_USERS: dict[Key, set[int]] = {}


def borrow(key: Key, user: int, load: Callable[[], Model]) -> Model:
    """The model of `key`, loaded if it is not; to be called on the thread of its device."""
    with _LOCK:
        _USERS.setdefault(key, set()).add(user)
        found = _MODELS.get(key)
    if found is None:  # loads on one device follow each other on its thread
        found = load()
        with _LOCK:
            _MODELS[key] = found
    return found


def give_back(user: int) -> None:
    """`user` needs none of its models any more; those that nobody uses are freed."""
    with _LOCK:
        for key, users in list(_USERS.items()):
            users.discard(user)
            if not users:
                del _USERS[key]
                _MODELS.pop(key, None)
