"""The families, in the order in which they are asked whether a checkpoint is theirs."""

from __future__ import annotations

from .family import Family

__all__ = ["FAMILIES"]

FAMILIES: tuple[Family, ...] = ()
