"""The 1000 classes of ImageNet (ILSVRC 2012) under their WordNet names, and how a caller names one.

`imagenet.txt` has one line per class, in the order of the class numbers: the synset's names, the
usual one first. Two that share their only name, the cranes, got a second one here.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from diptych.errors import InvalidInput

__all__ = ["CLASSES", "class_name", "find"]

CLASSES = 1000


@cache
def _names() -> tuple[tuple[str, ...], ...]:
    text = files(__package__).joinpath("imagenet.txt").read_text(encoding="utf-8")
    return tuple(tuple(line.split(", ")) for line in text.splitlines())


@cache
def _numbers() -> dict[str, tuple[int, ...]]:
    """Which classes a name may mean: those that have it first, else those that have it at all."""
    firsts: dict[str, tuple[int, ...]] = {}
    others: dict[str, tuple[int, ...]] = {}
    for number, names in enumerate(_names()):
        for place, name in enumerate(names):
            table = others if place else firsts
            key = _key(name)
            table[key] = (*table.get(key, ()), number)
    return others | firsts


def _key(name: str) -> str:
    """Case, hyphens, underscores, and an article in front make no difference."""
    words = name.casefold().replace("_", " ").replace("-", " ").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


def class_name(number: int) -> str:
    """The usual name of a class: 207 is "golden retriever"."""
    return _names()[number][0]


def find(label: object, classes: int = CLASSES, *, name: str = "label") -> int:
    """The number of the class that `label` names: a number, or one of its names.

    `classes` is how many classes the model has, `name` what the caller calls the value; names are known for ImageNet's 1000 alone. Raises
    `InvalidInput`, with the nearest names, for what is no class and for a name of several.
    """
    if isinstance(label, str) and label.strip().isdecimal():
        label = int(label)
    if isinstance(label, int) and not isinstance(label, bool):
        if 0 <= label < classes:
            return label
        raise InvalidInput(f"{name}={label} is not a class; the model has 0 to {classes - 1}")
    if not isinstance(label, str):
        raise InvalidInput(
            f"{name}={label!r} must be the number of a class or its name, such as 207 or "
            f'"golden retriever"'
        )
    if classes != CLASSES:
        raise InvalidInput(
            f"{name}={label!r}: the model has {classes} classes, which are not ImageNet's 1000, so they "
            f"have no names here; give a number from 0 to {classes - 1}"
        )
    found = _numbers().get(_key(label), ())
    if len(found) == 1:
        return found[0]
    if found:
        which = "; ".join(f"{number} is {', '.join(_names()[number])}" for number in found)
        raise InvalidInput(f"{name}={label!r} names several classes; give a number: {which}")
    near = _near(_key(label))
    shown = ", ".join(
        f"{class_name(number)!r} ({number})"
        for number in dict.fromkeys(_numbers()[each][0] for each in near)
    )
    hint = f"; near it: {shown}" if shown else '; try "golden retriever" or 207'
    raise InvalidInput(f"{name}={label!r} is not one of ImageNet's 1000 classes{hint}")


def _near(key: str) -> list[str]:
    """At most three names: those with the word in them, else like it, else with a word of it."""
    if within := _with(key):
        return within[:3]
    if close := get_close_matches(key, _numbers(), n=3):
        return close
    words = [_with(word) for word in key.split() if len(word) > 2]
    return [names[0] for names in words if names][:3]


def _with(word: str) -> list[str]:
    """The names that contain a word, those that end with it first."""
    names = (name for name in _numbers() if word in name.split())
    return sorted(names, key=lambda name: (not name.endswith(word), len(name)))
