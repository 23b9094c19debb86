"""Notices: what was done to a request that the caller should know about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Notice"]

NoticeKind = Literal[
    "translated",  # an option reached the model in another form
    "assumed",  # a documented default was chosen for the caller
    "unverified",  # passed through, nobody has checked that the model takes it
    "lifecycle",  # the model is about to be shut down
    "content",  # the provider flagged or changed something about the content
    "mismatch",  # the answer differs from what was asked
    "cost",  # something about the price that the estimate cannot show
]


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing the caller should know. `option` is the option concerned, when there is one."""

    kind: NoticeKind
    message: str
    option: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "option": self.option, "message": self.message}
