"""A description of a picture, parsed: style, subject, relations, background, each with its place.

    a watercolor of | a small fox | reading a book | in the snow | , detailed
    style             subject       relation         place          tag

`grammar.parse` makes one; this is what it is made of, and what single phrases can be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from . import words
from .inflection import key

_TOKEN = re.compile(r"[^\W_]+(?:[-'’.&+][^\W_]+)*|[^\w\s]|_")
SLOTS = frozenset(("place", "time", "weather", "backdrop"))


class Token(NamedTuple):
    """One word or mark; `start` and `end` are offsets into the text."""

    key: str
    start: int
    end: int
    is_word: bool


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun phrase, in token offsets: determiner at `start`, first word after it at `core`."""

    start: int
    core: int
    end: int
    after_of: bool = False


@dataclass(slots=True)
class Phrase:
    """`kind` is style, subject, relation, tag, or one of `SLOTS`; offsets are tokens."""

    kind: str
    start: int
    end: int
    nouns: list[Noun] = field(default_factory=list)


@dataclass(slots=True)
class Scene:
    """A parsed description."""

    text: str
    tokens: tuple[Token, ...]
    phrases: list[Phrase]

    def keys(self, start: int, end: int) -> list[str]:
        return [token.key for token in self.tokens[start:end]]

    def head(self, noun: Noun) -> str:
        return self.tokens[noun.end - 1].key

    def words(self, start: int, end: int) -> str:
        """The text of the tokens from `start` to `end`, as it was written."""
        if start >= end:
            return ""
        return self.text[self.tokens[start].start : self.tokens[end - 1].end]

    def subjects(self) -> list[Noun]:
        return [
            noun for phrase in self.phrases if phrase.kind == "subject" for noun in phrase.nouns
        ]

    def of_kind(self, *kinds: str) -> list[Phrase]:
        return [phrase for phrase in self.phrases if phrase.kind in kinds]


@lru_cache(maxsize=256)
def tokenize(text: str) -> tuple[Token, ...]:
    """The words and marks of `text`."""
    found = _TOKEN.finditer(text)
    return tuple([Token(key(m[0]), m.start(), m.end(), m[0][0].isalnum()) for m in found])


def keys_of(text: str) -> list[str]:
    """The words and marks of `text`, as they are looked up."""
    return [token.key for token in tokenize(text)]


def preposition_at(keys: list[str], i: int) -> int:
    """How many words the preposition at `i` has; 0 when there is none."""
    if i >= len(keys) or (keys[i] not in words.PREPOSITIONS and keys[i] not in ("next", "close")):
        return 0
    for long in words.LONG_PREPOSITIONS:
        if keys[i] == long[0] and tuple(keys[i : i + len(long)]) == long:
            return len(long)
    return 1 if keys[i] in words.PREPOSITIONS else 0


def style_noun(keys: list[str]) -> bool:
    """Whether a noun phrase, given as keys, names a kind of picture ("a loose oil painting")."""
    return bool(keys) and (
        keys[-1] in words.STYLES
        or tuple(keys[-2:]) in words.STYLE_PAIRS
        or keys[-1] == "style"
        or (len(keys) == 1 and keys[0] in words.MEDIA)
    )


def colour_phrase(keys: list[str]) -> bool:
    """Whether the keys name a colour and nothing else ("dark blue", "black and white")."""
    last = len(keys) - 1
    return (
        bool(keys)
        and keys[-1].rpartition("-")[2] in words.COLOURS
        and all(
            k.rpartition("-")[2] in words.COLOURS
            or k in words.SHADES
            or (k == "and" and 0 < i < last)
            for i, k in enumerate(keys)
        )
    )
