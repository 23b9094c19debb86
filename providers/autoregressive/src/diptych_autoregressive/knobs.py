"""The settings of sampling that raster models share: guidance, temperature, top-k and top-p."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diptych.errors import InvalidInput, UnsupportedOption

__all__ = ["Knobs", "sampling"]


@dataclass(frozen=True, slots=True)
class Knobs:
    """A model's own settings, used where the caller gives none. `top_k` 0 is off."""

    guidance: float
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


def sampling(ref: str, guidance: float | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling part of a payload: what the caller set.

    `extra` may hold temperature (0 takes the most probable token), top_k (0 is off) and top_p.
    Raises `UnsupportedOption` for other names, `InvalidInput` for values out of range.
    """
    payload: dict[str, Any] = {}
    if guidance is not None:
        payload["guidance"] = guidance
    for name, value in extra.items():
        if name not in _RANGES:
            raise UnsupportedOption(
                f"{ref} has no {name!r} in extra; it takes {', '.join(sorted(_RANGES))}",
                option="extra",
            )
        kind, low, high = _RANGES[name]
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not low <= value <= high or kind(value) != value:
            what = "a whole number" if kind is int else "a number"
            raise InvalidInput(f"{name}={value!r} must be {what} from {low:g} to {high:g}")
        payload[name] = kind(value)
    return payload


_RANGES: dict[str, tuple[type[int] | type[float], float, float]] = {
    "temperature": (float, 0, 10),
    "top_k": (int, 0, 1_000_000),
    "top_p": (float, 0.01, 1),
}
