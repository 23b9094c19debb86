"""Find the thing that an instruction names, and compose the noun phrase that takes its place."""

from __future__ import annotations

from ..errors import InvalidInput
from . import inflection, words
from .grammar import parse
from .scene import Noun, Phrase, Scene, keys_of, tokenize

MOST_MENTIONS = 20
LONGEST_REASON = 400
HINT = (
    "Understood are: 'make the dog a cat', 'replace X with Y', 'a cat instead of the dog', "
    "'make the car red', 'add a hat', 'remove the book', 'put it on a beach', 'make it at night', "
    "'make it a watercolor'. Otherwise write the full description of the new picture, or pass "
    "rewriter=... to use your own."
)


def refusal(reason: str) -> InvalidInput:
    """The error for an instruction that is not understood; it ends with the ways out."""
    if len(reason) > LONGEST_REASON:
        reason = reason[:LONGEST_REASON] + "..."
    return InvalidInput(f"{reason}. {HINT}")


def parts(target: str) -> list[str]:
    """The things that a target lists: "the hat and the scarf" is two, "the black and white cat" one."""
    named = parse(target)
    nouns = [noun for noun in named.subjects() if not noun.after_of]
    joined = all(named.tokens[noun.start - 1].key in ("and", ",", "&") for noun in nouns[1:])
    if len(nouns) < 2 or not joined:
        return [target]
    starts = [noun.start for noun in nouns]
    listed = (
        named.words(a, b) for a, b in zip(starts, [*starts[1:], len(named.tokens)], strict=True)
    )
    return [item.removesuffix(" and").rstrip(" ,") for item in listed]


def is_pronoun(target: str) -> bool:
    keys = keys_of(target)
    return len(keys) == 1 and (keys[0] in words.PRONOUNS or keys[0] == "its")


def is_picture(scene: Scene, target: str) -> bool:
    """Whether `target` names the picture as a whole ("the image", "everything")."""
    keys = [k.key for k in tokenize(target) if k.key not in words.DETERMINERS and k.key != "whole"]
    heads = {scene.head(noun) for phrase in scene.phrases for noun in phrase.nouns}
    return len(keys) == 1 and keys[0] in words.PICTURE and keys[0] not in heads


def is_whole(scene: Scene, target: str) -> bool:
    """Whether `target` is "it" or the picture, so that what is said of it may be said of all."""
    return is_pronoun(target) or is_picture(scene, target)


def main_subject(scene: Scene) -> Noun:
    """What "it" stands for; refused when the description has no subject, or several."""
    nouns = [noun for noun in scene.subjects() if not noun.after_of]
    if not nouns:
        raise refusal("the description names no subject that 'it' could stand for")
    if len(nouns) > 1:
        named = " or ".join(repr(scene.words(noun.start, noun.end)) for noun in nouns)
        raise refusal(f"'it' could be {named}: name the one to change")
    return nouns[0]


def phrase_of(scene: Scene, noun: Noun) -> Phrase:
    return next(p for p in scene.phrases if p.start <= noun.start and noun.end <= p.end)


def in_subject(scene: Scene, target: str) -> bool:
    return is_whole(scene, target) or (
        phrase_of(scene, resolve(scene, target)[0]).kind == "subject"
    )


def resolve(scene: Scene, target: str) -> list[Noun]:
    """Every mention of the one thing that `target` names, first mention first."""
    found = mentions(scene, target)
    if len(found) > MOST_MENTIONS:
        raise refusal(f"{target[:60]!r} is named more than {MOST_MENTIONS} times")
    if found:
        return found
    things = dict.fromkeys(
        scene.words(n.start, n.end) for phrase in scene.phrases for n in phrase.nouns
    )
    have = ", ".join(repr(thing) for thing in list(things)[:8]) or "nothing that can be named"
    raise refusal(f"the description has no {target[:60]!r}; it has {have}")


def mentions(scene: Scene, target: str) -> list[Noun]:
    """As `resolve`, but empty when nothing matches."""
    if is_pronoun(target):
        return [main_subject(scene)]
    keys = [token.key for token in tokenize(target) if token.is_word]
    while keys and (keys[0] in words.DETERMINERS or keys[0] in ("main", "whole")):
        del keys[0]
    if keys in (["subject"], ["character"]) and not _headed(scene, keys[0]):
        return [main_subject(scene)]
    wanted = parse(" ".join(keys))
    named = wanted.subjects()
    if not named or wanted.phrases[0].kind != "subject" or any(not n.after_of for n in named[1:]):
        return []
    first = named[0]
    head = wanted.head(first)
    described = {k for k in wanted.keys(first.core, first.end - 1) if not k.endswith("'s")}
    tail = [k for k in wanted.keys(first.end, len(keys)) if k not in words.DETERMINERS]
    same_head = _headed(scene, head)
    found = [
        noun
        for noun in same_head
        if described <= set(scene.keys(noun.core, noun.end)) and _followed(scene, noun, tail)
    ]
    if len(found) < 2:
        return _references(scene, found, same_head)
    fresh = [noun for noun in found if not _definite(scene, noun)]
    if len(fresh) > 1 or (fresh and fresh[0] is not found[0]):
        each = ", ".join(repr(scene.words(n.start, n.end)) for n in found[:5])
        raise refusal(f"{target[:60]!r} could be any of {each}: say which one")
    return found


def _headed(scene: Scene, head: str) -> list[Noun]:
    nouns = (noun for phrase in scene.phrases for noun in phrase.nouns)
    return [noun for noun in nouns if scene.head(noun) == head]


def _references(scene: Scene, found: list[Noun], same_head: list[Noun]) -> list[Noun]:
    """Add the later "the dog" to a "small dog" when there is no other dog."""
    fresh = [noun for noun in same_head if not _definite(scene, noun)]
    if len(found) == 1 and (fresh == found or not fresh):
        return [noun for noun in same_head if noun.start >= found[0].start]
    return found


def _definite(scene: Scene, noun: Noun) -> bool:
    return scene.tokens[noun.start].key in ("the", "this", "that", "these", "those", "same")


def of_part(scene: Scene, end: int) -> int:
    """Where "of tea" ends when it starts at the token `end`; 0 when nothing of the kind does."""
    nouns = (n for p in scene.phrases for n in p.nouns)
    return next((n.end for n in nouns if n.after_of and end < n.start <= end + 1), 0)


def _followed(scene: Scene, noun: Noun, tail: list[str]) -> bool:
    if not tail:
        return True
    after = scene.keys(noun.end, noun.end + 3 * len(tail) + 3)
    return [k for k in after if k not in words.DETERMINERS][: len(tail)] == tail


def compose(scene: Scene, noun: Noun, value: Scene, target: str, loose: bool) -> str:
    """The noun phrase that puts the first noun of `value` in the place of `noun`.

    Adjectives of the old phrase are kept, except those that the instruction named and those whose
    kind (size, age, colour, mood) the new phrase brings itself. A word before the noun that is no
    known adjective may be half of a name ("polar bear"); then only the full name is replaced.
    """
    new = value.subjects()[0]
    named = set(keys_of(target))
    brought = value.keys(new.core, new.end - 1)
    kinds = {words.ADJECTIVES.get(k) for k in brought} - {None}
    kept = []
    for i in range(noun.core, noun.end - 1):
        k = scene.tokens[i].key
        kind = (
            "color" if k in words.SHADES and k not in words.ADJECTIVES else words.ADJECTIVES.get(k)
        )
        if k in named or k in brought or (kind and kind in kinds and kind != "look"):
            continue
        if not inflection.adjective(k) and k != "and" and not k.endswith("'s"):
            whole = scene.words(noun.core, noun.end)
            raise refusal(
                f"{whole!r} may be one name or a described {scene.head(noun)}: write 'the {whole}'"
            )
        kept.append(scene.words(i, i + 1))
    if kept and kept[0] == "and":
        del kept[0]
    rest = value.words(new.core, new.end)
    core = " ".join([*kept, rest])
    if kept and brought and words.ADJECTIVES.get(brought[0]) == "size":
        core = " ".join(
            [value.words(new.core, new.core + 1), *kept, value.words(new.core + 1, new.end)]
        )
    return " ".join(filter(None, [determiner(scene, noun, value, new, core, loose), core]))


def determiner(scene: Scene, noun: Noun, value: Scene, new: Noun, core: str, loose: bool) -> str:
    """What goes before `core`: the old phrase's manner (the, her, two, none) with the new number.

    `loose` says that the instruction itself was written without articles ("replace fox with cat"),
    so that a missing article says nothing about the noun.
    """
    old = scene.words(noun.start, noun.core)
    old_keys, new_keys = scene.keys(noun.start, noun.core), value.keys(new.start, new.core)
    singular = {"a", "an", "one"}
    indefinite = inflection.article(core)
    many = inflection.plural(value.head(new))
    if not new_keys:
        if not set(old_keys) & singular:
            return old
        return indefinite if loose and not many else ""
    if new_keys[0] in words.ARTICLES or new_keys == ["the"]:
        if not old_keys:
            bare = noun.start == 0 and not inflection.plural(scene.head(noun))
            return "" if bare else indefinite
        if old_keys[0] in words.PLURALS and not many:
            return indefinite
        return indefinite if set(old_keys) & singular and old_keys != ["one"] else old
    return value.words(new.start, new.core)
