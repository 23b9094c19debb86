"""Change the text of a parsed description, and judge the words that an instruction puts there."""

# ruff: noqa: SIM905 - word lists are read more easily as text

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from . import inflection, words
from .grammar import parse
from .nouns import refusal
from .scene import SLOTS, Scene

Kind = Literal["replace", "recolour", "add", "remove", "background", "style"]
CONTENT = ("subject", "relation", *SLOTS)
_ARTICLE = re.compile(r"(?:\A|(?<=\W))(a)n?(\s+)\Z", re.IGNORECASE)
# Words that belong to an instruction; a value that holds one was not understood.
_FOREIGN = frozenset(
    """make turn change replace remove delete erase add put give please instead should could would
    must want it i me you don't doesn't not more less fewer bigger smaller same it's into than
    except than other is are or so""".split()
)


_ALSO_NOUNS = frozenset("orange glass stone adult antique rose salmon peach olive".split())
DANGLING = words.DETERMINERS | words.CONJUNCTIONS | words.PREPOSITIONS


@dataclass(frozen=True, slots=True)
class Outcome:
    """The text after an edit; `wide` when the edit may change every pixel."""

    text: str
    kind: Kind
    wide: bool = False


def splice(scene: Scene, start: int, end: int, new: str) -> str:
    """Put `new` in the place of the tokens from `start` to `end`; a/an before it follows suit."""
    tokens = scene.tokens
    a, b = tokens[start].start, tokens[end - 1].end
    left = scene.text[max(0, a - 6) : a]
    if found := _ARTICLE.search(left):
        word = inflection.article(new.partition(" ")[0])
        word = word.title() if found[1].isupper() else word
        left = left[: found.start()] + word + found[2]
    return scene.text[: max(0, a - 6)] + left + new + scene.text[b:]


def insert_after(scene: Scene, token: int, new: str) -> str:
    """Put `new` after the token at `token - 1`."""
    at = scene.tokens[token - 1].end
    return f"{scene.text[:at]}{new if new[:1] == ',' else ' ' + new}{scene.text[at:]}"


def drop(scene: Scene, start: int, end: int) -> str:
    """Leave the tokens from `start` to `end` out, with the comma or "and" that joined them."""
    tokens = scene.tokens
    size = len(tokens)
    if (
        end < size
        and tokens[end].key in ("and", "&")
        and (start == 0 or tokens[start - 1].key != "and")
    ):
        end += 1
    else:
        while start and tokens[start - 1].key in (",", "and", "&", "but"):
            start -= 1
        if start == 0 and end < size and tokens[end].key in (",", "and"):
            end += 1
    left = scene.text[: tokens[start - 1].end] if start else ""
    right = scene.text[tokens[end].start :] if end < size else ""
    glue = "" if not left or not right or not tokens[end].is_word else " "
    return left + glue + right


def checked(value: str) -> Scene:
    """Parse a value, refusing one that holds pieces of another instruction."""
    scene = parse(value)
    keys = [token.key for token in scene.tokens]
    foreign = {k for k in keys if k in _FOREIGN or inflection.comparative(k)}
    strange = [k for token, k in zip(scene.tokens, keys, strict=True) if not token.is_word]
    if not keys or foreign or set(strange) - {",", "&", '"', "#", "%"} or keys[-1] in DANGLING:
        about = f" (at {sorted(foreign)[0]!r})" if foreign else ""
        raise refusal(f"{value[:80]!r} cannot be read as one thing{about}")
    return scene


def noun_value(value: str, loose: bool) -> Scene:
    """Parse a value that must be one noun phrase with what belongs to it ("a cat with a hat")."""
    scene = checked(value)
    subjects = scene.subjects()
    new = subjects[0] if subjects and not scene.of_kind("tag", "style") else None
    first = scene.phrases[0] if scene.phrases else None
    if new is None or first is None or first.kind != "subject" or len(scene.of_kind("subject")) > 1:
        raise refusal(f"{value[:80]!r} cannot be read as one thing")
    listed = [noun for noun in subjects[1:] if not noun.after_of]
    if any(
        scene.tokens[noun.start].key == "the"
        or (noun.core == noun.start and not inflection.plural(scene.head(noun)))
        for noun in listed
    ):
        raise refusal(f"{value[:80]!r} reads as two edits that cannot be told apart")
    bare = new.core == new.start
    head = scene.head(new)
    if head in words.VAGUE or (not bare and head in words.ADJECTIVES and head not in _ALSO_NOUNS):
        raise refusal(f"{value[:80]!r} names no thing")
    if bare and not loose and not inflection.plural(scene.head(new)):
        raise refusal(f"{value[:80]!r} is neither a thing ('a ...'), a colour, a style nor a place")
    return scene
