"""Edits of one thing in the picture: another colour, another thing in its place, or nothing."""

from __future__ import annotations

import re

from . import words
from .commands import Edit
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
from .scene import SLOTS, Noun, Scene, colour_phrase, parse, tokenize
from .scenery import background, setting_phrase
from .splicing import Kind, Outcome, drop, noun_value, splice


def recolour(scene: Scene, edit: Edit) -> Outcome:
    colour = edit.value.strip()
    keys = [token.key for token in tokenize(colour)]
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
            while first > noun.core and scene.tokens[first - 1].key in words.SHADES:
                first -= 1
            text = splice(parse(text), first, last + 1, colour)
        elif i == 0:
            at = noun.end - 1
            while at > noun.core and not words.adjective(scene.tokens[at - 1].key):
                at -= 1
            word = scene.words(at, at + 1)
            text = splice(parse(text), at, at + 1, f"{colour} {word}")
    backdrop = scene.head(found[0]) in words.BACKDROPS
    return Outcome(text, "background" if backdrop else "recolour", backdrop)


def replace(scene: Scene, edit: Edit, *, strict: bool = False) -> Outcome:
    target_keys = [token.key for token in tokenize(edit.target)]
    if is_picture(scene, edit.target):
        raise refusal(f"{edit.target!r} is the whole picture: name the thing to replace")
    found = resolve(scene, edit.target)
    phrase = phrase_of(scene, found[0])
    if phrase.kind in SLOTS:
        return background(scene, setting_phrase(edit.value), phrase)
    loose = not strict
    value = noun_value(edit.value, loose)
    new = value.subjects()[0]
    if value.tokens[new.start].key in ("the", "its") and not is_pronoun(edit.target):
        with_head = [n for p in scene.phrases for n in p.nouns if scene.head(n) == value.head(new)]
        if with_head:
            raise refusal(
                f"{edit.value[:60]!r} is in the picture already: describe the new picture instead"
            )
    local = phrase.kind != "subject"
    inline = [p for p in value.phrases if local or p.kind in ("subject", "relation")]
    outside = [] if local else [p for p in value.phrases if p.kind in SLOTS]
    tail = value.words(new.end, inline[-1].end)
    articleless = not is_pronoun(edit.target) and target_keys[0] not in words.DETERMINERS
    text = scene.text
    for i, noun in reversed(list(enumerate(found))):
        wanted = edit.target if i == 0 else scene.words(noun.start, noun.end)
        made = compose(scene, noun, value, wanted, articleless)
        end = noun.end
        if i == 0 and tail:
            made = f"{made}{'' if tail[0] == ',' else ' '}{tail}"
        while (
            i == 0
            and (" of " in edit.target or tail.startswith("of "))
            and (following := of_part(scene, end))
        ):
            end = following
        text = splice(parse(text), noun.start, end, made)
    head, new_head = scene.head(found[0]), value.words(new.end - 1, new.end)
    possessive = re.compile(rf"\b{re.escape(head)}(?=['’]s\b)", re.IGNORECASE)
    text = possessive.sub(new_head, text)
    kind: Kind = "replace"
    for p in outside:
        text = background(parse(text), value.words(p.start, p.end)).text
        kind = "background"
    return Outcome(text, kind, bool(outside))


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
        and words.GERUNDS.get(opener) not in ("hold", "carry")
    ):
        next_key = scene.tokens[following[0].start].key
        if next_key in ("with", "without", "in") or next_key.endswith("ing"):
            tail = scene.words(following[0].start, following[0].end)
            raise refusal(f"it is not clear whether {tail!r} goes with {whole!r} or stays")
    if phrase.kind == "style":
        raise refusal(f"{whole!r} is the style: name the new one")
    text = drop(scene, phrase.start, phrase.end)
    return text[:1].upper() + text[1:] if scene.text[:1].isupper() else text
