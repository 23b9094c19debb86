"""Read an instruction: strip its politeness, split it into clauses, find each clause's pattern.

A clause becomes one `Edit`, still in the words of the instruction; only `edits` looks at the
description that is to be edited. Regular expressions have at most one lazy gap each and clauses are
short (`LONGEST`), so no text takes more than linear time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from . import inflection, words
from .grammar import parse
from .phrasings import (
    ABOUT_THIS,
    ASSERTS,
    BREAK,
    COMMANDS,
    HARD,
    INSTEAD,
    INSTEAD_FIRST,
    MARKER,
    MEDIUM,
    NEW,
    NEXT,
    OPENERS,
    POLITE,
    REQUEST,
    SAME,
    STATEMENTS,
    TAIL,
    VARIANT,
    VARIANT_WITH,
    VERSION,
)
from .scene import tokenize

LONGEST = 600  # characters in a clause; an instruction is longer only by mistake


@dataclass(frozen=True, slots=True)
class Edit:
    """`action` names a function of `edits`; `target` and `value` are words of the instruction."""

    action: str
    target: str = "it"
    value: str = ""


@cache
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source, re.IGNORECASE)


@cache
def _by_verb() -> dict[str, list[tuple[str, str]]]:
    table: dict[str, list[tuple[str, str]]] = {}
    for verbs, pattern, action in COMMANDS:
        for verb in verbs.split():
            table.setdefault(verb, []).append((pattern, action))
    return table


def plain(text: str) -> str:
    """Straight quotes and single spaces."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace(
        "\N{LEFT SINGLE QUOTATION MARK}", "'"
    )
    return " ".join(text.split())


def strip_polite(text: str) -> tuple[str, bool]:
    """`text` without its politeness, and whether it carried a word like "now" or "instead"."""
    marked = False
    text = text.strip(" \"'“”,.!?;:…")
    while found := _pattern(f"{POLITE}|(?P<marker>{MARKER})").match(text):
        marked = marked or found["marker"] is not None
        text = text[found.end() :]
    while tail := _pattern(TAIL + r"\Z").search(text[-40:]):
        marked = marked or "now" in tail[0].lower() or "this time" in tail[0].lower()
        text = text[: len(text) - len(tail[0])]
    text = text.rstrip(" \"'“”,.!?;:…")
    if text.lower().endswith(" instead"):
        return text[:-8].rstrip(" ,"), True
    return text, marked


def strip_variant(text: str) -> tuple[str, bool]:
    """`text` without an opening like "make a variant where", and whether there was one."""
    found = _pattern(VARIANT).match(text) or _pattern(VARIANT_WITH).match(text)
    return (text[found.end() :], True) if found else (text, False)


def requested(text: str) -> str | None:
    """The description in a request for a new picture ("Draw a fox"), None for anything else."""
    whole = plain(text)
    bare = strip_polite(whole)[0]
    last = whole[-12:].lower().rstrip(" .!?")
    if strip_variant(bare)[1] or last.endswith("instead") or _pattern(VERSION).fullmatch(bare):
        return None
    found = _pattern(REQUEST).match(bare)
    if found and (found["sure"] or found["new"]):
        rest = found["rest"]
        if _pattern(ABOUT_THIS).match(rest) or (not found["sure"] and " into " in rest.lower()):
            return None
    elif _pattern(r"(?:please |hi,? |hello,? )?(?:i|we|can i|could i|may i)\b").match(whole) and (
        bare != whole and {token.key for token in tokenize(bare[:20])[:1]} & NEW
    ):
        rest = bare
    else:
        return None
    medium = _pattern(MEDIUM).match(rest)
    return rest[medium.end() :] if medium else rest


def instructs(text: str) -> bool:
    """Whether `text`, which is no request for a new picture, asks for a change."""
    bare, marked = strip_polite(plain(text))
    tokens = tokenize(bare[:LONGEST])
    if marked or not tokens or strip_variant(bare)[1]:
        return marked or bool(tokens)
    first, second = tokens[0].key, tokens[1].key if len(tokens) > 1 else ""
    if _pattern(ASSERTS).match(bare) or _pattern(r"(?:.+? )?(?:instead of|rather than) ").match(
        bare
    ):
        return True
    if first in HARD:
        return bool(second)
    if first in _by_verb():
        joined = _pattern(r"\S+ .+? (?:into|to|with|for) ").match(bare)
        return second in NEXT or second in words.COLOURS or (bool(second) and bool(joined))
    return first in words.PREPOSITIONS and not parse(bare).subjects()


def clauses(text: str) -> list[list[str]]:
    """The clauses of a compound instruction, each as the pieces that commas and "and" make of it.

    A piece that does not open like an instruction belongs to the clause before it, so that "add a
    hat and a scarf" is one clause of two pieces. The first item of each list is the whole clause.
    """
    text = plain(text).strip(" ,;.!?")
    spans: list[list[tuple[int, int]]] = []
    start = 0
    waits = False
    for stop, after in [*((m.start(), m.end()) for m in _pattern(BREAK).finditer(text)), (-1, -1)]:
        end = len(text) if stop < 0 else stop
        piece = text[start:end]
        contrast = _pattern(r"(?:instead of|rather than) ").match(piece)
        if spans and (waits or contrast or not _opens(piece)):
            spans[-1].append((start, end))
        elif strip_polite(piece) != ("", False):
            spans.append([(start, end)])
        waits = bool(contrast and spans and len(spans[-1]) == 1)
        start = after
    return [[text[s[0][0] : s[-1][1]], *(text[a:b] for a, b in s)] for s in spans]


def clause(text: str) -> Edit:
    """The edit that one clause asks for."""
    bare, marked = strip_polite(text)
    bare, variant = strip_variant(bare)
    bare = _pattern(r"(?:where|in which) ").sub("", bare, count=1) if variant or marked else bare
    bare, more = strip_polite(bare) if variant else (bare, False)
    bare = _pattern(r"\b(it|he|she|that|there)'s\b").sub(r"\1 is", bare)
    for pattern, action in (
        (INSTEAD_FIRST, "instead"), (INSTEAD, "instead"), (VERSION, "be"), *STATEMENTS
    ):  # fmt: skip
        if found := _pattern(pattern).fullmatch(bare):
            return _edit(action, found)
    if _pattern(SAME).fullmatch(bare):
        return Edit("keep")
    first, _, rest = bare.partition(" ")
    for pattern, action in _by_verb().get(_verb(first.lower()), ()):
        if found := _pattern(pattern).fullmatch(rest):
            return _edit(action, found)
    prepositional = inflection.key(first) in words.PREPOSITIONS
    return Edit("be" if prepositional or marked or variant or more else "scene", value=bare)


def _edit(action: str, found: re.Match[str]) -> Edit:
    named = found.groupdict()
    return Edit(action, named.get("t") or "it", named.get("v") or "")


def _verb(word: str) -> str:
    """ "making" and "make" open the same clauses ("how about making it a cat")."""
    if not word.endswith("ing"):
        return word
    stems = (word[:-3], word[:-3] + "e", word[:-4])
    return next((stem for stem in stems if stem in _by_verb()), word)


def _opens(piece: str) -> bool:
    bare, marked = strip_polite(piece)
    first = inflection.key(bare.partition(" ")[0])
    return (
        marked
        or _verb(first) in _by_verb()
        or first in words.PREPOSITIONS
        or first in OPENERS
        or _pattern(r"the (?:\S+ ){1,4}(?:should|must|needs?|is|are)\b").match(bare) is not None
    )
