"""The caption grammar: many ways to say what is in a scene.

A caption always names the subject, what it wears, its object, a place, and a style other than
plain. A plain-coloured background and the plain style may be left out, so a terse prompt gets some
colour as its background. Filler words and misspellings are mixed in, so that words that the model
does not know do little harm.
"""

from __future__ import annotations

import random
import string
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from training.world import (
    BACKGROUNDS,
    BLUEPRINT,
    COLOURS,
    NAMES,
    NONE,
    NOTHING,
    PLAIN,
    RELATIONS,
    STYLES,
    Scenes,
)

_TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("captions.toml").read_text())
Texts = tuple[str, ...]


def _texts(key: str) -> Texts:
    return tuple(_TABLES[key])


def _table(key: str) -> dict[str, Texts]:
    return {name: tuple(said) for name, said in _TABLES[key].items()}


LEADS, FILLERS, QUALITY = map(_texts, ("leads", "fillers", "quality"))
WEARING, COLOUR_PHRASES = map(_texts, ("wearing", "on_colour"))
COLOUR_WORDS, PLACE_PHRASES, PLACE_TAGS = map(_table, ("colours", "places", "place_tags"))
RELATION_WORDS = {RELATIONS.index(name): said for name, said in _table("relations").items()}


class StyleWords(NamedTuple):
    """How one style is said."""

    before: Texts  # "of a fox"
    after: Texts  # "a fox"
    tags: Texts  # alone or as an adjective


STYLE_WORDS = {
    style: StyleWords(**{key: tuple(said) for key, said in forms.items()})
    for style, forms in _TABLES["styles"].items()
}
_UNCOUNTED = ("coffee", "sushi", "cheese")
_PAIRS = (
    "glasses", "sunglasses", "spectacles", "eyeglasses", "dark glasses", "shades", "headphones",
    "earphones",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Said:
    """The attributes of one scene that a caption says; no background where it is left out."""

    subject: int
    wear: int
    relation: int
    item: int
    background: int | None
    style: int


def texts() -> Iterator[str]:
    """Everything in the tables: names and phrases, which may hold a "{}"."""
    for names in NAMES:
        yield from names
    yield from (*BACKGROUNDS, *STYLES)
    yield from _leaves(_TABLES)


def _leaves(table: dict[str, Any] | list[str]) -> Iterator[str]:
    if isinstance(table, list):
        yield from table
    else:
        for part in table.values():
            yield from _leaves(part)


def article(noun: str, r: random.Random) -> str:
    """`noun` with "a" or "an", at times with "the" or with nothing."""
    if noun in _UNCOUNTED:
        return noun
    if noun in _PAIRS:
        return r.choice((noun, noun, f"a pair of {noun}"))
    if noun in ("sun", "moon", "rainbow", "stars") and r.random() < 0.6:
        return f"the {noun}"
    roll = r.random()
    if roll < 0.06:
        return noun
    if roll < 0.09:
        return f"one {noun}"
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith(('uni', 'ufo')) else 'a'} {noun}"


def name(glyph: int, r: random.Random) -> str:
    """The glyph's first name, or now and then another."""
    names = NAMES[glyph]
    return names[0] if r.random() < 0.7 else r.choice(names)


def colour(background: int, r: random.Random) -> str:
    word = BACKGROUNDS[background]
    return r.choice(COLOUR_WORDS.get(word, (word,)))


def background_phrase(background: int, r: random.Random) -> str:
    if background < len(COLOURS):
        return r.choice(COLOUR_PHRASES).format(colour(background, r))
    return r.choice(PLACE_PHRASES[BACKGROUNDS[background]])


def _place_tag(background: int, r: random.Random) -> str:
    if background < len(COLOURS):
        return colour(background, r) + " background"
    return r.choice(PLACE_TAGS[BACKGROUNDS[background]])


def nonsense(r: random.Random) -> str:
    """A word that means nothing."""
    return "".join(
        r.choice("bcdfghjklmnprstvwz") + r.choice("aeiou") for _ in range(r.randint(2, 4))
    ) + r.choice(("", "n", "r", "x", "s"))


def caption(scenes: Scenes, row: int, r: random.Random) -> str:
    """Words for one scene."""
    subject, wear, relation, item, style = (
        int(scenes[key][row]) for key in ("subject", "wear", "relation", "item", "style")
    )
    background = int(scenes["background"][row])
    unsaid = background < len(COLOURS) and (style == BLUEPRINT or r.random() >= 0.7)
    said = _Said(subject, wear, relation, item, None if unsaid else background, style)
    return dress((_tags if r.random() < 0.22 else _sentence)(said, r), r)


def _details(said: _Said, r: random.Random) -> list[str]:
    details = []
    if said.wear != NOTHING:
        details.append(r.choice(WEARING).format(article(name(said.wear, r), r)))
    if said.relation != NONE:
        phrase = r.choice(RELATION_WORDS[said.relation])
        details.append(phrase.format(article(name(said.item, r), r)))
    if len(details) == 2 and r.random() < 0.5:
        details.reverse()
    return details


def _sentence(said: _Said, r: random.Random) -> str:
    noun = name(said.subject, r)
    if r.random() < 0.18:
        noun = f"{r.choice(FILLERS) if r.random() < 0.75 else nonsense(r)} {noun}"
    details = _details(said, r)
    joined = r.choice((" and ", " and ", " ", ", ")).join(details)
    ground = background_phrase(said.background, r) if said.background is not None else ""
    words = STYLE_WORDS[STYLES[said.style]]
    kind = r.random()
    lead, tail, body = "", "", article(noun, r)
    if said.style == PLAIN and kind < 0.5:
        pass
    elif kind < 0.75:
        lead = r.choice(words.before)
    elif kind < 0.95 or said.style == PLAIN:
        tail = r.choice(words.after)
    else:
        body = article(f"{r.choice(words.tags)} {noun}", r)
    scene = [body, joined, ground]
    if ground and r.random() < 0.15:
        scene = [ground + ",", body, joined] if r.random() < 0.5 else [body, ground, joined]
    text = " ".join(part for part in scene if part)
    if lead:
        text = f"{lead} {r.choice(('of', 'of', 'of', 'showing', 'with'))} {text}"
    if tail and r.random() < 0.8:
        text = f"{text}{r.choice((' ', ', '))}{tail}"
    elif tail:
        text = f"{tail}{r.choice((', ', ': '))}{text}"
    if r.random() < 0.35:
        text = f"{r.choice(LEADS)} {text}"
    if r.random() < 0.06:
        text = f"{text}, {r.choice(QUALITY)}"
    return text


def _tags(said: _Said, r: random.Random) -> str:
    """Terse prompts: "watercolor fox, crown, snow"."""
    subject, wear, item = (
        partial(name, glyph, r) for glyph in (said.subject, said.wear, said.item)
    )
    words = [r.choice((subject(), subject(), article(subject(), r)))]
    if said.wear != NOTHING:
        words.append(r.choice((wear(), f"wearing {wear()}", f"with {article(wear(), r)}")))
    if said.relation != NONE:
        phrase = r.choice(RELATION_WORDS[said.relation])
        words.append(phrase.format(r.choice((item(), article(item(), r)))))
    if said.background is not None:
        words.append(
            r.choice((_place_tag(said.background, r), background_phrase(said.background, r)))
        )
    if said.style != PLAIN or r.random() < 0.1:
        word = r.choice(STYLE_WORDS[STYLES[said.style]].tags)
        words.insert(r.choice((0, len(words))), word)
    if r.random() < 0.05:
        words.append(r.choice((*QUALITY, nonsense(r))))
    return r.choice((", ", ", ", " ", " ")).join(words)


def dress(text: str, r: random.Random) -> str:
    """Misspell a few letters and end with or without a full stop; letter case is the tokenizers' business."""
    if r.random() < 0.03:
        at = r.randrange(len(text))
        text = text[:at] + r.choice(("", r.choice(string.ascii_lowercase))) + text[at + 1 :]
    return text + r.choice(("", "", "", ".", ".", "!" if r.random() < 0.2 else ""))
