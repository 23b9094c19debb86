"""Edits of the whole picture: its style, and its background (place, time, weather, backdrop)."""

from __future__ import annotations

import re

from . import inflection, words
from .commands import Edit
from .grammar import parse
from .nouns import in_subject, refusal
from .scene import SLOTS, Phrase, Scene, colour_phrase, style_noun
from .splicing import CONTENT, Outcome, checked, drop, insert_after, splice

MOST_PHRASES = 8  # of one sort in a description that is meant
# What a style phrase behind the subject opens with.
_LOOKS = frozenset(["in", "as", "by", "painted", "drawn", "rendered"])


def setting_phrase(value: str) -> str:
    """The phrase that names a setting: "a beach" is "on a beach", "night" is "at night"."""
    scene = checked(value)
    keys = [token.key for token in scene.tokens]
    if len(keys) == 1 and keys[0] in words.SCENE_ADJECTIVES:
        return words.SCENE_ADJECTIVES[keys[0]]
    core = keys[1:] if keys[0] in words.ARTICLES or keys[0] == "the" else keys
    if colour_phrase(core):
        text = scene.words(len(keys) - len(core), len(keys))
        return f"on {inflection.article(text)} {text} background"
    if keys[0] in words.PREPOSITIONS and len(keys) > 1:
        return value
    if not scene.subjects() or scene.phrases[0].kind != "subject" or not core:
        raise refusal(f"{value[:80]!r} is not a place, a time of day or a colour")
    single = "night" if core in (["nighttime"], ["night", "time"]) else core[0]
    single = single if len(core) == 1 or core[1:] == ["time"] else ""
    if single in words.TIMES:
        return f"{words.TIMES[single]} {single}"
    if single in words.WEATHER:
        return f"{words.WEATHER[single]} {single}"
    return _placed(value, core, scene.head(scene.subjects()[0]), bare=len(core) == len(keys))


def _placed(value: str, core: list[str], head: str, *, bare: bool) -> str:
    """A noun phrase behind the preposition that its head takes; `bare` when it has no article."""
    if core == [head] and head in words.SETTINGS:
        raise refusal(f"{value[:80]!r} does not say which {head}")
    named = f"{inflection.article(value)} {value}" if bare and value[:1].islower() else value
    if head in words.BACKDROPS:
        return f"on {named}"
    if head in words.TIMES:
        return f"{'on' if head in ('night', 'day') else 'at'} {value}"
    if head == "underwater":
        return value
    if head == "snow" and bare:
        return f"in the {value}"
    if head in words.PLACES or head in words.WEATHER:
        countless = head in words.BARE_PLACES or inflection.plural(head)
        return f"{words.PLACES.get(head, 'in')} {value if countless else named}"
    if bare and value[:1].isupper():
        return f"in {value}"
    if bare:
        raise refusal(f"{value[:80]!r} is not a place, a time of day or a colour")
    return f"in front of {value}"


def style(scene: Scene, edit: Edit) -> Outcome:
    value = re.sub(r"\A(?:as|like|in|into|to) (?=an? (?!.*style\b))", "", edit.value.strip())
    keys = [token.key for token in checked(value).tokens]
    core = keys[1:] if keys and keys[0] in words.DETERMINERS else keys
    named = parse(value).subjects()
    one = (len(named) == 1 and named[0].end - named[0].start == len(keys)) or keys[0] in _LOOKS
    if not core or core == ["style"] or not one or keys[0] in words.OWNERS | words.PLURALS:
        raise refusal("no style is named")
    if keys[0] in words.ARTICLES and core[-1] == "art":
        value, keys = value.partition(" ")[2], core
    prefix = ""
    if keys[0] in _LOOKS:
        suffix = value
    elif core[-1] == "style":
        suffix = f"in {value}"
    elif len(core) == 1 and (core[0] in words.STYLE_ADJECTIVES or value.endswith("-style")):
        suffix = f"in {inflection.article(core[0])} {core[0].removesuffix('-style')} style"
    elif colour_phrase(core) or core[-1] in words.MEDIA:
        suffix = f"in {value}"
    elif len(core) == 1 and core[0] in words.COUNTLESS_STYLES and core == keys:
        suffix = f"in {value} style"
    elif style_noun(core):
        made = core[-1] in words.STYLES or core[-1] == "sign"
        whole = core != keys or core[-1] == "art"
        prefix = value if whole else f"{inflection.article(value)} {value}" if made else ""
        suffix = "" if prefix else f"in {value} style"
    elif edit.action == "style" and len(core) < 6:
        suffix = f"in {value} style" if core == keys else f"in the style of {value}"
    else:
        raise refusal(f"{value[:60]!r} is not a known style: write 'in the style of ...'")
    old = scene.of_kind("style")
    if len(old) > MOST_PHRASES:
        raise refusal(f"the description has more than {MOST_PHRASES} styles")
    if prefix:
        prefix = f"{prefix} of"
        if old and old[0].start == 0:
            head = scene.tokens[old[0].end - 1].key == "of"
            text = splice(scene, 0, old[0].end, prefix if head else value)
        elif old:
            return Outcome(_restyle(scene, old, value, core == keys), "style", True)
        else:
            text = f"{prefix} {_uncapital(scene.text)}"
        text = _without_styles(text, skip=1)
    else:
        text = _without_styles(scene.text, skip=0)
        text = append(parse(text), suffix)
    return Outcome(text, "style", True)


def _restyle(scene: Scene, old: list[Phrase], value: str, bare: bool) -> str:
    """Put a style noun where a style phrase stands after the subject, in that phrase's manner."""
    first = old[0]
    keys = scene.keys(first.start, first.end)
    if keys[0] not in words.PREPOSITIONS and keys[0] not in words.RENDERED:
        new = value if bare else value.partition(" ")[2]  # ", pixel art"
    else:
        new = f"in {value}" if bare else f"as {value}"
    text = splice(scene, first.start, first.end, new)
    return _without_styles(text, skip=1)


def _without_styles(text: str, skip: int) -> str:
    while len(styles := parse(text).of_kind("style")) > skip:
        scene = parse(text)
        last = styles[-1]
        text = drop(scene, last.start, last.end)
        if last.start == 0 and scene.text[:1].isupper():
            text = text[:1].upper() + text[1:]
    scene = parse(text)
    nouns = scene.subjects()
    if nouns:  # "a pixel art fox", "a watercolor fox"
        keys = scene.keys(nouns[0].core, nouns[0].end - 1)
        for size in (2, 1):
            if len(keys) >= size and style_noun(keys[-size:]):
                at = nouns[0].end - 1
                rest = scene.words(at, at + 1)
                return splice(scene, at - size, at + 1, rest)
    return text


def _uncapital(text: str) -> str:
    first = text.partition(" ")[0].lower()
    return text[:1].lower() + text[1:] if first in words.DETERMINERS else text


def append(scene: Scene, new: str) -> str:
    """Put a phrase at the end of the scene's content, before a style phrase or a tag."""
    content = scene.of_kind(*CONTENT)
    if not content:
        raise refusal("the description names nothing that the edit could apply to")
    return insert_after(scene, content[-1].end, new)


def background(
    scene: Scene, new: str, instead_of: Phrase | None = None, *, alone: bool = False
) -> Outcome:
    """Put a setting in the place of those it excludes, or of `instead_of`; `alone` excludes all."""
    kinds = {phrase.kind for phrase in parse("x " + new).phrases[1:]} & SLOTS or {"place"}
    old = [p for p in scene.of_kind(*SLOTS) if alone or _clash(p.kind, kinds)]
    if instead_of:
        old = [instead_of]
    if len(old) > MOST_PHRASES:
        raise refusal(f"the description has more than {MOST_PHRASES} settings")
    text = scene.text
    for phrase in reversed(old[1:]):
        text = drop(parse(text), phrase.start, phrase.end)
    if old:
        return Outcome(splice(parse(text), old[0].start, old[0].end, new), "background", True)
    if kinds & {"place"} and (later := scene.of_kind("time", "weather")) and later[0].start:
        return Outcome(insert_after(scene, later[0].start, new), "background", True)
    return Outcome(append(scene, new), "background", True)


def _clash(old: str, new: set[str]) -> bool:
    """A time joins a place, a plain backdrop leaves no room for either."""
    return old in new or "backdrop" in new or old == "backdrop"


def move(scene: Scene, edit: Edit) -> Outcome:
    if not in_subject(scene, edit.target):
        raise refusal(f"{edit.target[:60]!r} is not the main subject, so it cannot be moved alone")
    new = setting_phrase(edit.value)
    if new.startswith("in front of"):
        if not edit.value.startswith("the "):
            raise refusal(
                f"{edit.value[:60]!r}: write 'put it in {edit.value[:60]}', or 'on', 'under'"
            )
        new = f"at {edit.value}"
    return background(scene, new)
