"""Find out what a clause means for a given description, and have it carried out."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import InvalidInput
from . import inflection, words
from .additions import act, add, carry_out, join, placement
from .commands import Edit, clause
from .grammar import parse
from .nouns import in_subject, is_pronoun, is_whole, mentions, parts, phrase_of, refusal, resolve
from .scene import SLOTS, Phrase, Scene, colour_phrase, keys_of, style_noun, tokenize
from .scenery import background, move, setting_phrase, style
from .splicing import DANGLING, Outcome, checked, splice
from .things import recolour, remove, replace


def apply(source: str, edit: Edit) -> Outcome | None:
    """Carry out `edit` on `source`; None when it asks only to keep something."""
    return _ACTIONS[edit.action](parse(source), edit)


def become(scene: Scene, edit: Edit) -> Outcome:
    """ "it" or "the dog" becomes whatever the value turns out to be."""
    value = re.sub(r"\A(?:be|become|to be|being) ", "", edit.value.strip(" ,"))
    keys = keys_of(value)
    if not keys:
        raise refusal("the instruction does not say what to change it into")
    core = (keys[1:] if keys[0] in words.ARTICLES or keys[0] == "the" else keys) or keys
    bare = edit.action == "scene"
    if colour_phrase(core) and not bare:
        if core == ["black", "and", "white"] and is_whole(scene, edit.target):
            return style(scene, Edit("be", value=f"in {value}"))
        return recolour(scene, Edit("recolour", edit.target, value))
    if (
        is_pronoun(edit.target)
        and (found := placement(scene, parse(value)))
        and in_subject(scene, found[2])
    ):  # "a hat on the fox"
        return add(scene, Edit("add", value=value))
    if keys[0] in words.PREPOSITIONS:
        return _prepositional(scene, edit.target, value)
    done = _as_scenery(scene, edit.target, value, core) or _as_style(scene, edit, value, core)
    if done:
        return done
    if bare:
        raise refusal(f"{edit.value[:80]!r} cannot be read as an instruction")
    third_person = keys[0][-1] == "s" and keys[0] in inflection.FINITE
    if keys[0] in words.VERBS or keys[0] in inflection.GERUNDS or third_person:
        return act(scene, edit.target, value)
    into = edit.action == "become"
    return replace(scene, Edit("replace", edit.target, value), strict=not into)


def _as_scenery(scene: Scene, target: str, value: str, core: list[str]) -> Outcome | None:
    """ "snowy", "night", "day" as a value; None for anything else."""
    named = core[0] in words.SCENE_ADJECTIVES or core[0] in words.TIMES or core[0] == "underwater"
    if not named or (len(core) > 1 and core[1:] != ["time"]):
        return None
    if not is_whole(scene, target):
        found = mentions(scene, target)
        phrase = phrase_of(scene, found[0]) if found else None
        if phrase and phrase.kind in SLOTS:  # "turn day into night"
            return background(scene, setting_phrase(value), phrase)
        if not phrase or phrase.kind != "subject":
            raise refusal(f"{target!r} alone cannot be {value!r}")
    return background(scene, setting_phrase(value))


def _as_style(scene: Scene, edit: Edit, value: str, core: list[str]) -> Outcome | None:
    """ "a watercolor", "pixel art at night", "an oil painting of a wolf"; None for anything else."""
    looks = re.match(r"(?:look|appear|seem)(?:s|ing)? (?:more )?like ", value)
    parsed = parse(value)
    first = parsed.phrases[0] if parsed.phrases else None
    named = looks or style_noun(core)
    if len(core) == 1 and core[0] in words.STYLE_ADJECTIVES:
        named = is_whole(scene, edit.target)
    later = parsed.phrases[1:]
    ahead = bool(first and later and all(phrase.kind in SLOTS for phrase in later)) and style_noun(
        parsed.keys(0, later[0].start)
    )
    if not (named or ahead or (first and first.kind == "style")):
        return None
    if not in_subject(scene, edit.target):
        raise refusal(f"{value[:60]!r} is a style of the whole picture, not of {edit.target!r}")
    if named:
        return style(scene, Edit("be", value=value[looks.end() :] if looks else value))
    assert first is not None
    look = parsed.words(0, first.end)
    outcome = style(scene, Edit("be", value=look.removesuffix(" of")))
    if ahead:
        return carry_out(outcome, later, parsed)
    after = parsed.words(first.end, len(parsed.tokens))
    if look.endswith(" of") and not is_pronoun(after):
        other = replace(parse(outcome.text), Edit("replace", "it", after), strict=True)
        return Outcome(other.text, "style", True)
    return outcome


def _prepositional(scene: Scene, target: str, value: str) -> Outcome:
    checked(value)
    parsed = parse("x " + value)
    phrases = parsed.phrases[1:]
    first = parsed.words(phrases[0].start, phrases[0].end) if phrases else ""
    related = bool(phrases) and phrases[0].kind != "relation"
    if phrases and phrases[0].kind == "relation":
        related = bool(phrases[0].nouns) and tokenize(value)[0].key in words.RELATING
    if not related or phrases[0].start != 1 or re.search(r"\bthe (?:back|fore)ground\Z", first):
        raise refusal(f"{value[:80]!r} does not say where or how")
    if not in_subject(scene, target):
        if first.startswith("with ") and len(phrases) == 1:
            return Outcome(join(scene, resolve(scene, target)[0], value[5:]), "add")
        raise refusal(f"{target[:60]!r} is not the main subject, so it cannot be moved alone")
    if phrases[0].kind == "relation" and first.startswith("with "):
        return add(scene, Edit("add", value=value[5:]))
    return carry_out(Outcome(scene.text, "add"), phrases, parsed)


def setting(scene: Scene, edit: Edit) -> Outcome:
    """ "the setting to a forest"; a new background leaves nothing of the old one."""
    value = re.sub(r"\A(?:be|become|look like) ", "", edit.value)
    keys = keys_of(value)
    core = keys[1:] if keys and keys[0] in words.DETERMINERS else keys
    if style_noun(core) and core[-1] not in words.PLACES:
        return style(scene, Edit("style", value=value))
    new = setting_phrase(value)
    backdrop = scene.of_kind("backdrop")
    if backdrop and colour_phrase(core):
        return recolour(
            scene, Edit("recolour", scene.words(backdrop[0].nouns[0].start, backdrop[0].end), value)
        )
    timed = parse("x " + new).phrases[-1].kind in ("time", "weather")
    return background(scene, new, alone=timed and edit.action == "backdrop")


# Clauses whose target and value are not separated by a word.


def _reference(scene: Scene, target: str) -> bool:
    listed = parts(target)
    if len(listed) > 1:
        return all(_reference(scene, part) for part in listed)
    return is_whole(scene, target) or bool(mentions(scene, target))


def make(scene: Scene, edit: Edit) -> Outcome:
    """ "the dog a cat", "it red", "the dogs cats": the longest known thing that leaves a value."""
    target, value = _divide(scene, edit.value)
    return become(scene, Edit("be", target, value))


def give(scene: Scene, edit: Edit) -> Outcome:
    target, value = _divide(scene, edit.value)
    return have(scene, Edit("have", target, value))


def have(scene: Scene, edit: Edit) -> Outcome:
    if is_pronoun(edit.target):
        return add(scene, Edit("add", value=edit.value))
    checked(edit.value)
    return Outcome(join(scene, resolve(scene, edit.target)[0], edit.value), "add")


def put(scene: Scene, edit: Edit) -> Outcome:
    """ "it on a beach" moves the subject; "a crown on the fox" adds."""
    first = tokenize(edit.value)[0].key
    if first in words.PRONOUNS or (first not in words.ARTICLES and first not in words.COUNTS):
        try:
            target, value = _divide(scene, edit.value)
        except InvalidInput:
            return add(scene, Edit("add", value=edit.value))
        if value.lower() not in ("on", "there", "here"):
            return become(scene, Edit("be", target, value))
    return add(scene, Edit("add", value=edit.value))


def _divide(scene: Scene, text: str) -> tuple[str, str]:
    """Split "the car next to the house red" behind the longest part that the description knows."""
    tokens = tokenize(text)
    known: tuple[str, str] | None = None
    unclear: InvalidInput | None = None
    for i in range(1, min(len(tokens), 14)):
        target, value = text[: tokens[i - 1].end], text[tokens[i].start :]
        try:
            if i == 1 and is_pronoun(target) and tokens[0].key not in words.OWNERS:
                return target, value
            if (i == 1 or tokens[i - 1].key not in DANGLING) and _reference(scene, target):
                known = target, value
        except InvalidInput as error:
            unclear = error
    if known:
        return known
    if unclear:
        raise unclear
    end = next((i for i, t in enumerate(tokens[1:], 1) if t.key in words.DETERMINERS), None)
    resolve(scene, text[: tokens[(end or min(2, len(tokens))) - 1].end])
    raise refusal(f"{text[:80]!r} does not say what to change it into")


def from_to(scene: Scene, edit: Edit) -> Outcome:
    """ "the dog from brown to black", "the fox from a fox to a cat"."""
    _, found, value = edit.value.rpartition(" to ")
    if not found:
        raise refusal(f"{edit.value[:60]!r} does not say what to change it into")
    return become(scene, Edit("become", edit.target, value))


def lack(scene: Scene, edit: Edit) -> Outcome:
    return remove(scene, Edit("remove", edit.value))


def whole(scene: Scene, edit: Edit) -> Outcome:
    """Bare words, or "use ...": certain only when they name a style, a place or a time."""
    keys = keys_of(edit.value)
    if keys and keys[-1] in words.BACKDROPS:
        return setting(scene, Edit("setting", value=edit.value))
    return become(scene, Edit("scene", edit.target, edit.value))


_LEAD = re.compile(
    r"\A(?:(?:make|have|let|use|give|show|draw|paint|put|get|want)\b ?|"
    r"(?:it|him|her|them|there)\b ?|(?:be|is|are|should|should be|being|now)\b )*",
    re.IGNORECASE,
)


def instead(scene: Scene, edit: Edit) -> Outcome:
    """ "a cat instead of the dog", "have it hold a guitar instead of a book"."""
    value = _LEAD.sub("", edit.value, count=1)
    target = edit.target
    keys = keys_of(value)
    old = keys_of(target)
    if not keys or not old:
        raise refusal("'instead of' needs a thing on both sides")
    if old[0] in inflection.GERUNDS or old[0] in words.PREPOSITIONS:
        phrase = _phrase_like(scene, old)
        if phrase.kind in SLOTS:
            new = value if keys[0] in words.PREPOSITIONS else setting_phrase(value)
            return background(scene, new, phrase)
        return _swap(scene, phrase, value)
    if colour_phrase(old) and not mentions(scene, target):
        if colour_phrase(keys):
            return recolour(scene, Edit("recolour", "it", value))
        left = clause(edit.value)
        if left.action in ("make", "be"):
            return _ACTIONS[left.action](scene, left) or Outcome(scene.text, "recolour")
        raise refusal(f"{target!r} names no thing")
    if keys[0] in words.PREPOSITIONS and keys[0] != "with":
        phrase = phrase_of(scene, resolve(scene, target)[0])
        return (
            background(scene, value, phrase)
            if phrase.kind in SLOTS
            else _swap(scene, phrase, value)
        )
    if keys[0] in words.VERBS or keys[0] in inflection.GERUNDS:
        phrase = phrase_of(scene, resolve(scene, target)[0])
        return _swap(scene, phrase, value)
    if keys[0] == "with":
        value, keys = value.partition(" ")[2], keys[1:]
    if old[-1] == "one" and len(old) > 1:
        target = f"{target[: -len('one')]}{keys[-1]}"
    if style_noun(keys[1:]) and not mentions(scene, target):
        return style(scene, Edit("be", value=value))
    return replace(scene, Edit("replace", target, value))


def _phrase_like(scene: Scene, keys: list[str]) -> Phrase:
    wanted = [k for k in keys if k not in words.DETERMINERS]
    for phrase in scene.phrases:
        have = [k for k in scene.keys(phrase.start, phrase.end) if k not in words.DETERMINERS]
        if have[: len(wanted)] == wanted or have[-len(wanted) :] == wanted:
            return phrase
    raise refusal(f"the description has no {' '.join(keys)[:60]!r}")


def _swap(scene: Scene, phrase: Phrase, value: str) -> Outcome:
    """Put a verb or preposition phrase in the place of a relation."""
    checked(value)
    first, _, rest = value.partition(" ")
    if first.lower() in words.VERBS:
        value = f"{inflection.gerund(first.lower())} {rest}".strip()
    new = parse("x " + value).phrases[1:]
    alike = bool(new) and new[0].start == 1 and new[0].kind == "relation"
    if phrase.kind != "relation" or not alike:
        raise refusal(f"{scene.words(phrase.start, phrase.end)!r} and {value[:60]!r} are not alike")
    return Outcome(splice(scene, phrase.start, phrase.end, value), "replace")


_ACTIONS: dict[str, Callable[[Scene, Edit], Outcome | None]] = {
    "become": become, "be": become, "scene": whole, "make": make, "give": give, "have": have,
    "put": put, "add": add, "remove": remove, "lack": lack, "replace": replace,
    "recolour": recolour, "setting": setting, "backdrop": setting, "style": style, "move": move, "from_to": from_to,
    "instead": instead, "keep": lambda scene, edit: None,
}  # fmt: skip
