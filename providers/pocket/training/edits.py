"""Edits: change one attribute of a scene, and ask for it in words."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from training import world
from training.captions import (
    COLOUR_PHRASES,
    PLACE_PHRASES,
    STYLE_WORDS,
    article,
    background_phrase,
    colour,
    dress,
    name,
)
from training.world import (
    BACKGROUNDS,
    COLOURS,
    HOLDING,
    NEXT_TO,
    NONE,
    NOTHING,
    READING,
    STYLES,
    UNDER,
    Scenes,
)

KINDS = ("subject", "background", "style", "item", "wear")
_STARTS = (
    "",
    "",
    "",
    "",
    "now ",
    "now ",
    "then ",
    "please ",
    "and now ",
    "can you ",
    "ok, ",
    "great, now ",
    "next, ",
)
Attributes = dict[str, int]  # of one scene
_PARTICIPLE = {READING: "reading", HOLDING: "holding", NEXT_TO: "next to", UNDER: "under"}


def apply(scenes: Scenes, rng: np.random.Generator) -> tuple[Scenes, np.ndarray]:
    """Edited copies of the scenes, and the kind of each edit (index into KINDS); no edit leads into a held-back combination."""
    kind = rng.choice(len(KINDS), len(scenes["subject"]), p=[0.34, 0.2, 0.2, 0.14, 0.12])
    edited, trained = _change(scenes, kind, rng), ~world.is_held_back(scenes)
    while (wrong := trained & world.is_held_back(edited)).any():
        again = _change(world.take(scenes, wrong), kind[wrong], rng)
        for key in edited:
            edited[key][wrong] = again[key]
    return edited, kind


def _change(scenes: Scenes, kind: np.ndarray, rng: np.random.Generator) -> Scenes:
    n = len(kind)
    edited = {key: value.copy() for key, value in scenes.items()}
    creature = scenes["subject"] < len(world.CREATURES)
    others = {
        "subject": np.where(
            creature & (rng.random(n) < 0.9),
            rng.choice(world.CREATURES, n),
            rng.choice(world.SUBJECTS, n),
        ),
        "background": rng.integers(len(BACKGROUNDS), size=n),
        "style": rng.integers(len(STYLES), size=n),
    }
    counts = {"subject": len(world.SUBJECTS), "background": len(BACKGROUNDS), "style": len(STYLES)}
    for index, (key, other) in enumerate(others.items()):
        same = other == scenes[key]
        other = np.where(same, (other + 1) % counts[key], other)
        other = np.where(
            key == "subject" and other == scenes["item"], (other + 1) % counts[key], other
        )
        edited[key] = np.where(kind == index, other, edited[key])
    _change_item(edited, kind == KINDS.index("item"), rng)
    _change_wear(edited, kind == KINDS.index("wear"), rng)
    return edited


def _change_item(edited: Scenes, rows: np.ndarray, rng: np.random.Generator) -> None:
    """Remove the object, swap it within its relation, or add one where there was none."""
    relation, item = edited["relation"], edited["item"]
    n = len(relation)
    remove = (relation != NONE) & ((rng.random(n) < 0.45) | (relation == READING))
    creature = edited["subject"] < len(world.CREATURES)
    added = np.where(
        creature,
        rng.choice([READING, HOLDING, NEXT_TO, UNDER], n, p=[0.2, 0.4, 0.25, 0.15]),
        NEXT_TO,
    )
    added = np.where((added == UNDER) & (edited["wear"] != NOTHING), NEXT_TO, added)
    target = np.where(remove, NONE, np.where(relation == NONE, added, relation))
    chosen = world.pick_item(target, edited["subject"], rng)
    while (same := rows & (target != NONE) & (chosen == item)).any():
        chosen = np.where(same, world.pick_item(target, edited["subject"], rng), chosen)
    edited["relation"] = np.where(rows, target, relation)
    edited["item"] = np.where(rows, chosen, item)


def _change_wear(edited: Scenes, rows: np.ndarray, rng: np.random.Generator) -> None:
    wear = edited["wear"]
    n = len(wear)
    remove = (wear != NOTHING) & (rng.random(n) < 0.45)
    other = rng.choice(world.WEAR, n)
    other = np.where(
        other == wear, world.WEAR[0] + (other - world.WEAR[0] + 1) % len(world.WEAR), other
    )
    edited["wear"] = np.where(rows, np.where(remove, NOTHING, other), wear)
    # There is no room for a hat under a cloud.
    clash = rows & (edited["relation"] == UNDER) & (edited["wear"] != NOTHING)
    edited["relation"] = np.where(clash, NEXT_TO, edited["relation"])


def instruction(before: Scenes, after: Scenes, kind: int, row: int, r: random.Random) -> str:
    """Words that ask for the edit from `before` to `after`."""
    old, new = _attributes(before, row), _attributes(after, row)
    phrase = _PHRASES[KINDS[kind]](old, new, r)
    return dress(r.choice(_STARTS) + phrase, r)


def _attributes(scenes: Scenes, row: int) -> Attributes:
    return {key: int(scenes[key][row]) for key in world.ATTRIBUTES}


def _subject(before: Attributes, after: Attributes, r: random.Random) -> str:
    old, new = name(before["subject"], r), name(after["subject"], r)
    a_new = article(new, r)
    return r.choice((
        f"make it {a_new}", f"make it {a_new}", f"make it {a_new} instead", f"make the {old} {a_new}", f"turn the {old} into {a_new}",
        f"turn it into {a_new}", f"replace the {old} with {a_new}", f"replace the {old} by {a_new}", f"change the {old} to {a_new}",
        f"change it to {a_new}", f"make a variant where it's {a_new}", f"make a variant where it's {a_new}", f"make a variant where it is {a_new}",
        f"make a version with {a_new}", f"the same with {a_new}", f"same picture but with {a_new}", f"same but {a_new}", f"{a_new} instead of the {old}",
        f"{a_new} instead", f"with {a_new}", f"swap the {old} for {a_new}", f"i want {a_new} instead", f"it should be {a_new}",
        f"what if it was {a_new}", f"let it be {a_new}", f"change the animal to {a_new}", f"do the same for {a_new}", f"{new}", f"{a_new}",
        f"make a variant with {a_new} instead of {article(old, r)}", f"draw {a_new} instead", f"the {old} becomes {a_new}",
    ))  # fmt: skip


def _background(before: Attributes, after: Attributes, r: random.Random) -> str:
    phrase = background_phrase(after["background"], r)
    templates = [
        f"put it {phrase}", f"make it {phrase}", phrase, f"move it {phrase}", f"now {phrase}", f"place it {phrase}", f"show it {phrase}",
        f"the same {phrase}", f"same but {phrase}", f"make a variant {phrase}", f"make a variant where it's {phrase}", f"set it {phrase}",
        f"put the {name(after['subject'], r)} {phrase}", f"draw it {phrase}", f"let it be {phrase}", f"what about {phrase}",
    ]  # fmt: skip
    if after["background"] < len(COLOURS):
        word = colour(after["background"], r)
        templates = [p.format(word) for p in COLOUR_PHRASES] + templates[:8]
        templates += 3 * [
            f"make the background {word}", f"change the background to {word}", f"{word} background", f"with a {word} background",
            f"set the background to {word}", f"make it {word} in the background", f"use a {word} background", f"paint the background {word}",
        ]  # fmt: skip
    else:
        place = BACKGROUNDS[after["background"]]
        templates += [
            f"change the background to {article(place, r)}",
            f"make the background {article(place, r)}",
            f"{place}",
            f"{place} background",
        ]
        templates += [r.choice(PLACE_PHRASES[place])]
        if place in ("night", "sunset", "snow"):
            templates += 2 * {
                "night": ["make it night", "make it dark", "let it be night", "turn day into night"],
                "sunset": ["make it sunset", "make it evening", "let the sun set", "let it be dusk"],
                "snow": ["make it snow", "let it snow", "make it winter", "add snow"],
            }[place]  # fmt: skip
    return r.choice(templates)


def _style(before: Attributes, after: Attributes, r: random.Random) -> str:
    of, tail, adjective = (r.choice(words) for words in STYLE_WORDS[STYLES[after["style"]]])
    old = r.choice(STYLE_WORDS[STYLES[before["style"]]][0])
    return r.choice((
        f"make it {of}", f"make it {of}", f"turn it into {of}", f"{tail}", f"redraw it {tail}", f"the same {tail}", f"make a variant {tail}",
        f"make it {tail}", f"change the style to {adjective}", f"in the style of {of}", f"show it {tail}", f"same but {tail}", f"{adjective}",
        f"{adjective} style", f"as {of}", f"draw it {tail}", f"now {of}", f"make it look like {of}", f"convert it to {adjective}", f"{of} of it",
        f"make a variant where it's {of}", f"{of} instead of {old}", f"do it {tail}", f"use a {adjective} style",
    ))  # fmt: skip


def _item(before: Attributes, after: Attributes, r: random.Random) -> str:
    subject = name(after["subject"], r)
    if after["relation"] == NONE:
        old = name(before["item"], r)
        return r.choice(_removals(old, subject))
    thing = article(name(after["item"], r), r)
    if before["relation"] == NONE:
        return _added(thing, after["relation"], subject, r)
    old = name(before["item"], r)
    return r.choice((
        f"replace the {old} with {thing}", f"make the {old} {thing}", f"swap the {old} for {thing}", f"change the {old} to {thing}",
        f"turn the {old} into {thing}", f"{thing} instead of the {old}", f"use {thing} instead of the {old}", f"replace the {old} by {thing}",
        f"make it {_PARTICIPLE[after['relation']]} {thing} instead of the {old}", f"let it be {_PARTICIPLE[after['relation']]} {thing}",
    ))  # fmt: skip


def _added(thing: str, relation: int, subject: str, r: random.Random) -> str:
    particular = {
        READING: (f"let it read {thing}", f"give it {thing} to read", f"make it read {thing}", f"have it reading {thing}", f"reading {thing}"),
        HOLDING: (f"let it hold {thing}", f"give it {thing}", f"make it hold {thing}", f"put {thing} in its hand", f"holding {thing}", f"add {thing}"),
        NEXT_TO: (f"put {thing} next to it", f"add {thing} next to it", f"place {thing} beside it", f"next to {thing}", f"with {thing} beside it"),
        UNDER: (f"put {thing} above it", f"add {thing} above it", f"put it under {thing}", f"under {thing}", f"place it under {thing}"),
    }[relation]  # fmt: skip
    particular += (
        f"make the {subject} {_PARTICIPLE[relation]} {thing}",
        f"have the {subject} {_PARTICIPLE[relation]} {thing}",
    )
    return r.choice((*particular, f"add {thing}"))


def _wear(before: Attributes, after: Attributes, r: random.Random) -> str:
    subject = name(after["subject"], r)
    if after["wear"] == NOTHING:
        old = name(before["wear"], r)
        return r.choice(
            (
                *_removals(old, subject),
                f"take off the {old}",
                f"take the {old} off",
                f"it should not wear the {old}",
            )
        )
    new = article(name(after["wear"], r), r)
    if before["wear"] == NOTHING:
        return r.choice((
            f"add {new}", f"add {new}", f"give it {new}", f"put {new} on it", f"let it wear {new}", f"make it wear {new}", f"wearing {new}",
            f"put {new} on the {subject}", f"give the {subject} {new}", f"have it wear {new}", f"with {new}", f"make the {subject} wear {new}",
            f"it should wear {new}",
        ))  # fmt: skip
    old = name(before["wear"], r)
    return r.choice((
        f"replace the {old} with {new}", f"make the {old} {new}", f"swap the {old} for {new}", f"{new} instead of the {old}",
        f"change the {old} to {new}", f"let it wear {new} instead", f"turn the {old} into {new}", f"replace the {old} by {new}",
    ))  # fmt: skip


def _removals(old: str, subject: str) -> tuple[str, ...]:
    return (
        f"remove the {old}", f"remove the {old}", f"without the {old}", f"take the {old} away", f"take away the {old}", f"no {old}", f"get rid of the {old}",
        f"delete the {old}", f"drop the {old}", f"the same without the {old}", f"the {subject} should not have the {old}",
    )  # fmt: skip


_PHRASES: dict[str, Callable[[Attributes, Attributes, random.Random], str]] = {
    "subject": _subject,
    "background": _background,
    "style": _style,
    "item": _item,
    "wear": _wear,
}
