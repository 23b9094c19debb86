"""Keys: kept out of everything that can be printed."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Secret", "scrub"]


class Secret:
    """A key that does not print, compare by value in text, or pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the one header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a key is not pickled; read it again where it is needed")


def scrub(text: str, secrets: Iterable[Secret | None]) -> str:
    """`text` with every occurrence of every secret replaced by ***."""
    for secret in secrets:
        if secret is not None and secret.reveal():
            text = text.replace(secret.reveal(), "***")
    return text
