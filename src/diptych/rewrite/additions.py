"""Edits that bring something new to the picture: a thing, or something for the subject to do."""

from __future__ import annotations

import re

from . import inflection, words
from .commands import Edit
from .grammar import parse
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
from .scene import SLOTS, Noun, Phrase, Scene, preposition_at
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
    if found := placement(scene, value):
        return _add_at(scene, head, *found)
    checked(text)
    if head in words.WORN and (old := _worn(scene, head)):
        have = scene.words(old.start, old.end)
        raise refusal(f"there is {have!r} already: write 'make the {head} ...' to change it")
    if head in words.WEATHER or head in words.AIRBORNE:
        return Outcome(append(scene, f"with {text}"), "add", True)
    return Outcome(join(scene, None, text), "add")


def placement(scene: Scene, value: Scene) -> tuple[str, str, str] | None:
    """A thing, a preposition and a noun of the description ("a hat", "on", "the fox"), or None."""
    nouns = value.subjects()
    keys = value.keys(0, len(value.tokens))
    if not nouns or value.phrases[0].kind != "subject":
        return None
    for start in range(nouns[0].end, len(keys)):
        size = preposition_at(keys, start)
        where = value.words(start + size, len(keys))
        if size and where:
            definite = is_pronoun(where) or keys[start + size] in ("the", *words.OWNERS)
            if definite and (is_pronoun(where) or mentions(scene, where)):
                return value.words(0, start), " ".join(keys[start : start + size]), where
            _known_place(scene, where)
    return None


def _worn(scene: Scene, head: str) -> Noun | None:
    """The hat, say, that the subject wears already."""
    for phrase in scene.of_kind("relation"):
        opener = scene.tokens[phrase.start].key
        if opener in ("in", "with", "wearing", "wears"):
            for noun in phrase.nouns:
                if scene.head(noun) == head:
                    return noun
    return None


def _add_at(scene: Scene, head: str, thing: str, lead: str, where: str) -> Outcome:
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
        pronoun = "them" if inflection.plural(scene.head(named)) else "it"
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
            parts[i] = inflection.gerund(base) if base and low not in inflection.GERUNDS else word
    doing = parse("x " + " ".join(parts))
    if len(doing.phrases) < 2 or doing.phrases[1].start != 1 or doing.of_kind("tag"):
        raise refusal(f"{value[:80]!r} cannot be read as something to do")
    new = doing.phrases[1]
    rest = doing.phrases[2:]
    end = new.end
    while rest and rest[0].kind == "relation" and doing.keys(end, end + 1) == ["and"]:
        end = rest.pop(0).end  # "smiling and waving" is one thing to do
    phrase = doing.words(new.start, end)
    verb = parts[0]
    subject = in_subject(scene, target)
    noun = None if is_pronoun(target) else resolve(scene, target)[0]
    if is_pronoun(target):
        main_subject(scene)
    outcome: Outcome | None = None
    for old in scene.of_kind("relation") if subject else ():
        at, base = _verb_of(scene, old)
        if verb == "wearing" and new.nouns:
            wearable = _worn(scene, doing.head(new.nouns[0]))
            if wearable:
                worn = doing.words(new.nouns[0].start, new.nouns[0].end)
                outcome = Outcome(splice(scene, wearable.start, wearable.end, worn), "replace")
            elif base == "wear":
                more = "and " + phrase.split(" ", 1)[-1]
                outcome = Outcome(insert_after(scene, old.end, more), "add")
        elif base and base != "wear":
            new_base = inflection.GERUNDS.get(verb, "")
            postures = {base, new_base} & words.POSTURES
            if base == new_base or len(postures) == 2:
                outcome = Outcome(splice(scene, at, old.end, phrase), "replace")
            elif not postures or postures & words.ASLEEP:
                done = scene.words(old.start, old.end)
                raise refusal(
                    f"it is not clear whether {done!r} stays: write '... instead of {done}'"
                )
        if outcome:
            break
    outcome = outcome or Outcome(relate(scene, noun, phrase), "add")
    return carry_out(outcome, rest, doing)


def _verb_of(scene: Scene, phrase: Phrase) -> tuple[int, str]:
    """Where the verb of a relation is and its base form ("" for a relation without one)."""
    for i in range(phrase.start, min(phrase.end, phrase.start + 3)):
        k = scene.tokens[i].key
        base = inflection.GERUNDS.get(k) or inflection.BASES.get(k)
        if base:
            return i, base
    return phrase.start, ""


def carry_out(outcome: Outcome, phrases: list[Phrase], value: Scene, target: str = "it") -> Outcome:
    """Carry out the phrases that came with a value: places, styles, relations of `target`."""
    relations = [phrase for phrase in phrases if phrase.kind == "relation"]
    # Each goes right behind the noun, so the last comes first.
    ordered = [*reversed(relations), *(phrase for phrase in phrases if phrase not in relations)]
    for phrase in ordered:
        text = value.words(phrase.start, phrase.end)
        scene = parse(outcome.text)
        if phrase.kind in SLOTS:
            after = background(scene, text)
            kind = "style" if outcome.kind == "style" else after.kind
            outcome = Outcome(after.text, kind, True)
        elif phrase.kind == "style":
            outcome = style(scene, Edit("be", value=text))
        elif phrase.kind != "relation":
            raise refusal(f"{text!r} cannot be placed in the description")
        elif value.tokens[phrase.start].key in inflection.GERUNDS:
            outcome = Outcome(act(scene, target, text).text, outcome.kind, outcome.wide)
        else:
            noun = None if is_pronoun(target) else resolve(scene, target)[0]
            new = (
                join(scene, noun, text[5:])
                if text.startswith("with ")
                else relate(scene, noun, text)
            )
            outcome = Outcome(new, outcome.kind, outcome.wide)
    return outcome
