"""Edits that bring something new to the picture: a thing, or something for the subject to do."""

from __future__ import annotations

import re

from . import words
from .commands import Edit
from .nouns import (
    in_subject,
    is_pronoun,
    main_subject,
    mentions,
    of_part,
    phrase_of,
    refusal,
    resolve,
)
from .scene import SLOTS, Noun, Phrase, Scene, parse, preposition_at
from .scenery import append, background, setting_phrase, style
from .splicing import Outcome, checked, insert_after, splice


def add(scene: Scene, edit: Edit) -> Outcome:
    """ "a crown", "a bird next to it", "a crown to the fox", "a moon in the sky"."""
    text = re.sub(r" (?:to|in|into) (?:the|this) (?:picture|image|scene)\Z", "", edit.value)
    value = parse(text)
    phrases = value.phrases
    if phrases and (value.tokens[-1].key == "style" or phrases[0].kind == "style"):
        return style(scene, Edit("be", value=text))
    nouns = value.subjects()
    if not nouns or phrases[0].kind != "subject" or value.of_kind("tag"):
        raise refusal(f"{text[:80]!r} is nothing that can be added")
    head = value.head(nouns[0])
    if head in words.BACKDROPS and len(phrases) == 1:
        return background(scene, setting_phrase(text))
    if nouns[0].core == nouns[0].start and words.ADJECTIVES.get(head):
        raise refusal(f"{text[:80]!r} is nothing that can be added")
    keys = value.keys(0, len(value.tokens))
    for start in range(nouns[0].end, len(keys)):
        size = preposition_at(keys, start)
        where = value.words(start + size, len(value.tokens))
        if size and where:
            lead = " ".join(keys[start : start + size])
            if is_pronoun(where) or mentions(scene, where):
                return _add_at(scene, value.words(0, start), head, lead, where)
            _known_place(scene, where)
    checked(text)
    if head in words.WEATHER or head in words.AIRBORNE:
        return Outcome(append(scene, f"with {text}"), "add", True)
    return Outcome(join(scene, None, text), "add")


def _add_at(scene: Scene, thing: str, head: str, lead: str, where: str) -> Outcome:
    """Add `thing` where a preposition and a noun of the description place it."""
    checked(thing)
    noun = None if is_pronoun(where) else resolve(scene, where)[0]
    named = noun or main_subject(scene)
    own = in_subject(scene, where)
    if own and lead in ("next to", "beside", "near"):
        return Outcome(relate(scene, noun, f"{lead} {thing}"), "add")
    worn = head in words.WORN and lead in ("on", "onto", "over")
    if own and (worn or lead in ("to", "for")):
        return Outcome(join(scene, noun, thing), "add")
    if lead in ("to", "for", "with", "of", "from"):
        phrase = f"with {thing}"
    else:
        pronoun = "them" if words.plural(scene.head(named)) else "it"
        phrase = f"with {thing} { {'onto': 'on', 'into': 'in'}.get(lead, lead) } {pronoun}"
    return Outcome(relate(scene, noun, phrase), "add")


def _known_place(scene: Scene, where: str) -> None:
    """Refuse a definite thing that is not there ("a hat on the dog" when there is a fox)."""
    place = parse(where)
    nouns = place.subjects()
    if not nouns or place.phrases[0].kind != "subject":
        return
    first, head = place.tokens[nouns[0].start].key, place.head(nouns[0])
    if first in words.OWNERS and head not in words.BODY:
        resolve(scene, where)
    if first == "the" and head not in words.FRAME and head not in words.PLACES:
        resolve(scene, where)


def join(scene: Scene, noun: Noun | None, thing: str) -> str:
    """Say that `noun`, or else the main subject, has `thing`; an earlier "with ..." is joined."""
    if noun is None or phrase_of(scene, noun).kind == "subject":
        subjects = scene.of_kind("subject")
        following = [p for p in scene.phrases if subjects and p.start >= subjects[-1].end][:1]
        if following and following[0].kind == "relation" and len(scene.subjects()) == 1:
            keys = scene.keys(following[0].start, following[0].end)
            if keys[0] == "with" and not {"in", "on", "of"} & set(keys) and "and" not in keys:
                return insert_after(scene, following[0].end, f"and {thing}")
    return relate(scene, noun, f"with {thing}")


def relate(scene: Scene, noun: Noun | None, phrase: str) -> str:
    """Put a relation right behind `noun`, or behind everything that is the main subject."""
    if noun is not None:
        end = noun.end
        while following := of_part(scene, end):
            end = following
        return insert_after(scene, end, phrase)
    subjects = scene.of_kind("subject")
    if not subjects:
        raise refusal("the description names no subject")
    return insert_after(scene, subjects[-1].end, phrase)


def act(scene: Scene, target: str, value: str) -> Outcome:
    """ "wear a hat", "reading a newspaper": the subject does this, in place of doing the like."""
    checked(value)
    parts = value.split(" ")
    for i, word in enumerate(parts):
        if i == 0 or parts[i - 1] in ("and", "or"):
            low = word.lower()
            base = next((v for v in (low, low[:-1], low[:-2]) if v in words.VERBS), "")
            parts[i] = words.gerund(base) if base and low not in words.GERUNDS else word
    doing = parse("x " + " ".join(parts))
    new = doing.phrases[1]
    phrase = doing.words(new.start, new.end)
    verb = parts[0]
    subject = in_subject(scene, target)
    noun = None if is_pronoun(target) else resolve(scene, target)[0]
    if is_pronoun(target):
        main_subject(scene)
    relations = scene.of_kind("relation") if subject else []
    outcome: Outcome | None = None
    for old in relations:
        keys = scene.keys(old.start, old.end)
        same = {verb, words.third_person(words.GERUNDS.get(verb, "x"))} & set(keys[:3])
        bodily = not old.nouns and not new.nouns and any(k in words.GERUNDS for k in keys)
        if same and verb == "wearing":
            outcome = Outcome(
                insert_after(scene, old.end, "and " + phrase.split(" ", 1)[-1]), "add"
            )
        elif same or bodily:
            at = next(i for i, k in enumerate(keys) if k in words.GERUNDS or k in words.FINITE)
            outcome = Outcome(splice(scene, old.start + at, old.end, phrase), "replace")
        if outcome:
            break
    outcome = outcome or Outcome(relate(scene, noun, phrase), "add")
    return carry_out(outcome, doing.phrases[2:], doing)


def carry_out(outcome: Outcome, phrases: list[Phrase], value: Scene) -> Outcome:
    """Carry out the phrases that came with a value: places, styles, further relations."""
    for phrase in phrases:
        text = value.words(phrase.start, phrase.end)
        scene = parse(outcome.text)
        if phrase.kind in SLOTS:
            outcome = background(scene, text)
        elif phrase.kind == "style":
            outcome = style(scene, Edit("be", value=text))
        elif phrase.kind == "relation" and text.startswith("with "):
            outcome = Outcome(join(scene, None, text[5:]), outcome.kind, outcome.wide)
        elif phrase.kind == "relation":
            outcome = Outcome(relate(scene, None, text), outcome.kind, outcome.wide)
        else:
            raise refusal(f"{text!r} cannot be placed in the description")
    return outcome
