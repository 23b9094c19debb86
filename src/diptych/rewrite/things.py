"""Edits of one thing in the picture: another colour, another thing in its place, or nothing."""

from __future__ import annotations

import re

from . import inflection, words
from .additions import carry_out
from .commands import Edit
from .grammar import parse
from .nouns import (
    compose,
    is_picture,
    is_pronoun,
    mentions,
    of_part,
    parts,
    phrase_of,
    refusal,
    resolve,
)
from .scene import SLOTS, Noun, Phrase, Scene, colour_phrase, keys_of, tokenize
from .scenery import background, setting_phrase
from .splicing import Outcome, drop, noun_value, splice

_TINTS = words.SHADES - {"plain", "solid"}


def recolour(scene: Scene, edit: Edit) -> Outcome:
    colour = edit.value.strip()
    keys = keys_of(colour)
    if keys[:1] == ["a"] or keys[:1] == ["the"]:
        colour, keys = colour.partition(" ")[2], keys[1:]
    if not colour_phrase(keys):
        raise refusal(f"{edit.value[:60]!r} is not a colour")
    if is_picture(scene, edit.target):
        raise refusal("the whole picture cannot be one colour: name the thing to recolour")
    text = scene.text
    listed = parts(edit.target)
    if len(listed) > 1:
        for part in listed:
            text = recolour(parse(text), Edit("recolour", part, colour)).text
        return Outcome(text, "recolour")
    found = resolve(scene, edit.target)
    for i, noun in reversed(list(enumerate(found))):
        tinted = [
            k for k in range(noun.core, noun.end - 1)
            if scene.tokens[k].key.rpartition("-")[2] in words.COLOURS
        ]  # fmt: skip
        if tinted:
            first, last = tinted[0], tinted[-1]
            while first > noun.core and scene.tokens[first - 1].key in _TINTS:
                first -= 1
            text = splice(parse(text), first, last + 1, colour)
        elif i == 0:
            at = noun.end - 1
            while at > noun.core and not inflection.adjective(scene.tokens[at - 1].key):
                at -= 1
            word = scene.words(at, at + 1)
            text = splice(parse(text), at, at + 1, f"{colour} {word}")
    backdrop = scene.head(found[0]) in words.BACKDROPS
    return Outcome(text, "background" if backdrop else "recolour", backdrop)


def replace(scene: Scene, edit: Edit, *, strict: bool = False) -> Outcome:
    """Put a noun phrase in the place of every mention of the target.

    `strict` wants an article before a single thing, as in "make it a bear"; "make it bear" is no
    noun for certain, "replace it with bear" is.
    """
    if is_picture(scene, edit.target):
        raise refusal(f"{edit.target!r} is the whole picture: name the thing to replace")
    found = resolve(scene, edit.target)
    phrase = phrase_of(scene, found[0])
    if phrase.kind in SLOTS:
        return background(scene, _same_manner(scene, phrase, edit.value), phrase)
    value = noun_value(edit.value, loose=not strict)
    new = value.subjects()[0]
    if value.tokens[new.start].key == "the" and mentions(scene, value.words(new.start, new.end)):
        raise refusal(
            f"{edit.value[:60]!r} is in the picture already: describe the new picture instead"
        )
    # What belongs to an object stands right behind it; what a new subject does is a further edit.
    local = phrase.kind != "subject"
    inline = value.phrases if local else value.of_kind("subject")
    tail = value.words(new.end, inline[-1].end)
    articleless = not is_pronoun(edit.target) and parse(edit.target).subjects()[0].start == (
        parse(edit.target).subjects()[0].core
    )
    text = scene.text
    for i, noun in reversed(list(enumerate(found))):
        wanted = edit.target if i == 0 else scene.words(noun.start, noun.end)
        made = compose(scene, noun, value, wanted, articleless)
        end = noun.end
        if i == 0:
            if " of " in edit.target or tail.startswith("of "):
                end = _past_of_parts(scene, end)
            made = f"{made}{'' if tail[:1] == ',' else ' '}{tail}".rstrip()
            text = _agree(parse(text), noun, end, value, new)
        text = splice(parse(text), noun.start, end, made)
    head, new_head = scene.head(found[0]), value.words(new.end - 1, new.end)
    possessive = re.compile(rf"\b{re.escape(head)}(?=['’]s\b)", re.IGNORECASE)
    outcome = Outcome(possessive.sub(lambda _: new_head, text), "replace")
    rest = [] if local else value.phrases[len(inline) :]
    target = edit.target if is_pronoun(edit.target) else f"the {value.words(new.core, new.end)}"
    return carry_out(outcome, rest, value, target)


def _same_manner(scene: Scene, phrase: Phrase, value: str) -> str:
    """`value` as a setting, behind the old preposition when it has none of its own."""
    new = setting_phrase(value)
    if new == f"in front of {value}":
        new = f"{scene.words(phrase.start, phrase.nouns[0].start)} {value}"
    return new


def _past_of_parts(scene: Scene, end: int) -> int:
    while following := of_part(scene, end):
        end = following
    return end


def _agree(scene: Scene, noun: Noun, end: int, value: Scene, new: Noun) -> str:
    """Make a finite verb behind `noun` agree with the noun that is about to replace it."""
    before, after = _several(scene, noun), _several(value, new)
    forms = inflection.PLURAL_VERBS if after else inflection.SINGULAR_VERBS
    follows = scene.tokens[end].key if end < len(scene.tokens) else ""
    if before != after and follows in forms:
        return splice(scene, end, end + 1, forms[follows])
    return scene.text


def _several(scene: Scene, noun: Noun) -> bool:
    counted = scene.tokens[noun.start].key in words.COUNTS
    return counted or inflection.plural(scene.head(noun))


def remove(scene: Scene, edit: Edit) -> Outcome:
    if is_picture(scene, edit.target):
        raise refusal("the whole picture cannot be removed: name the thing to remove")
    target = edit.target
    listed = parts(target)
    if len(listed) > 1:
        text = scene.text
        for part in listed:
            text = remove(parse(text), Edit("remove", part)).text
        return Outcome(text, "remove")
    if tokenize(target)[-1].key in words.BACKDROPS and not mentions(scene, target):
        raise refusal("without a background there must be another: write 'on a white background'")
    text = scene.text
    for noun in reversed(resolve(scene, target)):
        text = _remove_noun(parse(text), noun)
    return Outcome(text, "remove")


def _remove_noun(scene: Scene, noun: Noun) -> str:
    phrase = phrase_of(scene, noun)
    whole = scene.words(noun.start, noun.end)
    listed = [other for other in phrase.nouns if not other.after_of]
    if noun.after_of:
        raise refusal(
            f"{whole!r} is part of {scene.words(phrase.start, phrase.end)!r}: name what to remove"
        )
    if phrase.kind == "subject" and len(scene.subjects()) < 2:
        raise refusal(f"{whole!r} is the main subject; without it nothing is left")
    if len(listed) > 1:
        end = next((n.start - 1 for n in listed if n.start > noun.start), phrase.end)
        return drop(scene, noun.start, end)
    position = scene.phrases.index(phrase)
    following = scene.phrases[position + 1 : position + 2]
    joined = following and following[0].start == phrase.end and following[0].kind == "relation"
    opener = scene.tokens[phrase.start].key
    if (
        joined
        and opener not in words.LIFELESS
        and inflection.GERUNDS.get(opener) not in ("hold", "carry")
    ):
        next_key = scene.tokens[following[0].start].key
        if next_key in ("with", "without", "in") or next_key.endswith("ing"):
            tail = scene.words(following[0].start, following[0].end)
            raise refusal(f"it is not clear whether {tail!r} goes with {whole!r} or stays")
    if phrase.kind == "style":
        raise refusal(f"{whole!r} is the style: name the new one")
    text = drop(scene, phrase.start, phrase.end)
    return text[:1].upper() + text[1:] if scene.text[:1].isupper() else text
