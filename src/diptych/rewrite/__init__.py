"""Turn an instruction into a description, for models that take only descriptions.

    rewrite("make the dog a cat", "a dog in the snow").prompt == "a cat in the snow"

The description that made the current picture is parsed (`grammar`, into a `Scene`), the instruction
is split into clauses and matched against a table of phrasings (`commands`), and each clause is
carried out on the description (`edits`, by way of `things`, `additions` and `scenery`). What is not
understood with certainty is refused: a wrong picture costs more than a question.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidInput
from . import edits, words
from .commands import LONGEST, Edit, clause, clauses, instructs, plain, requested
from .nouns import refusal
from .scene import keys_of, tokenize
from .splicing import Kind, Outcome

__all__ = ["Rewrite", "description", "reading", "rewrite"]

_UNREMARKABLE = (
    words.DETERMINERS | words.PREPOSITIONS | words.CONJUNCTIONS | frozenset(("of", "it"))
)


@dataclass(frozen=True)
class Rewrite:
    """The new description, and what became of the old one.

    `kind` is the first clause's, except that a background or style edit outranks the others.
    `is_global` says that no local mask fits the edit: a style, a background, weather. `changed`
    holds the content words that the old description did not have, in their new order.
    """

    prompt: str
    kind: Kind
    is_global: bool
    changed: tuple[str, ...]


def reading(text: str) -> Literal["instruction", "description"]:
    """How a prompt reads: as a change of the picture at hand, or as a picture of its own.

    "Draw a fox" and "I want a picture of a fox" are requests for a picture of its own.
    """
    if requested(text) is None and instructs(text):
        return "instruction"
    return "description"


def description(text: str) -> str:
    """The bare description in a request ("Please draw a fox." gives "a fox").

    Other text comes back as it is, with single spaces and without its final full stop.
    """
    asked = requested(text)
    bare = " ".join(text.split()) if asked is None else asked
    if bare.endswith(".") and not bare.endswith(".."):
        bare = bare[:-1].rstrip()
    return bare


def rewrite(instruction: str, source: str) -> Rewrite:
    """Apply `instruction` to `source`, the description that made the current picture.

    Several instructions in one ("make it a cat and put it on a beach") are applied in order. Raises
    `InvalidInput` when any of them is not understood with certainty: its thing is not in the
    source, could be one of several, or the wording is unknown. The message names the ways out.
    """
    old = " ".join((requested(source) or source).split())
    if not any(token.is_word for token in tokenize(old)):
        raise refusal("there is no description to apply the instruction to")
    text = old
    done: list[Outcome] = []
    for whole, *pieces in clauses(_cased(instruction, old)):
        for outcome in _carry_out(text, whole, pieces, added=any(o.kind == "add" for o in done)):
            text = _tidy(outcome.text, old)
            done.append(outcome)
    if not done:
        raise refusal(f"{instruction.strip()[:80]!r} asks for no change that is understood")
    if keys_of(text) == keys_of(old):
        raise refusal(f"{instruction.strip()[:80]!r} changes nothing in {old[:80]!r}")
    kind = next((o.kind for o in done if o.kind in ("style", "background")), done[0].kind)
    return Rewrite(text, kind, any(o.wide for o in done), _new_words(old, text))


def _carry_out(text: str, whole: str, pieces: list[str], *, added: bool) -> list[Outcome]:
    """Apply a clause as one edit; failing that, as its pieces, which then share its verb."""
    if len(whole) > LONGEST:
        raise refusal(
            f"a part of the instruction has {len(whole):,} characters; at most {LONGEST} are read"
        )
    try:
        edit = clause(whole)
        outcomes = _apply(text, [edit])
        if (
            added
            and {"it", "its", "them"}.intersection(keys_of(whole))
            and outcomes
            and outcomes[0].kind in ("replace", "recolour")
        ):
            raise refusal(f"'it' in {whole!r} could be what was added: name the thing")
        return outcomes
    except InvalidInput:
        if not 1 < len(pieces) < 6:
            raise
        verb = pieces[0].split(" ", 1)[0]
        try:
            return _apply(text, [clause(pieces[0]), *(clause(f"{verb} {p}") for p in pieces[1:])])
        except InvalidInput:
            pass
        raise


def _apply(text: str, wanted: list[Edit]) -> list[Outcome]:
    done = []
    for edit in wanted:
        outcome = edits.apply(text, edit)
        if outcome is not None:
            text = outcome.text
            done.append(outcome)
    return done


def _cased(instruction: str, source: str) -> str:
    """The instruction in the source's casing: not shouted, no capital only for its first word."""
    text = plain(instruction)
    if text.isupper() and not source.isupper():
        return text.lower()
    first, _, rest = text.partition(" ")
    if first[1:].islower() and not rest[:1].isupper():
        return text[:1].lower() + text[1:]
    return text


def _tidy(text: str, source: str) -> str:
    """Single spaces, and the source's way with capitals."""
    text = " ".join(text.split())
    if source.isupper() and len(source) > 3:
        return text.upper()
    long = [word for word in source.split() if word[:1].isalpha() and len(word) > 3]
    if len(long) > 2 and all(word[0].isupper() for word in long):
        text = " ".join(w if w in _UNREMARKABLE else w[:1].upper() + w[1:] for w in text.split(" "))
    if source[:1].isupper() and source[1:2].islower() | (source[1:2] == " "):
        return text[:1].upper() + text[1:]
    return text


def _new_words(old: str, new: str) -> tuple[str, ...]:
    left = Counter(keys_of(old))
    fresh = []
    for token in tokenize(new):
        left[token.key] -= 1
        if left[token.key] < 0 and token.is_word and token.key not in _UNREMARKABLE:
            fresh.append(new[token.start : token.end])
    return tuple(fresh)
