"""The spelling rules of English that a rewrite needs: a/an, -ing, -s, and what looks plural."""

# ruff: noqa: SIM905 - word lists are read more easily as text

from __future__ import annotations

import re

from . import words

_DOUBLED = frozenset("sit run swim hug dig sip nap hop".split())
_GERUNDS = {"lie": "lying", "ski": "skiing"}
_IRREGULAR = frozenset("sat stood lay slept ran flew swam held wore rode ate drank".split())
_SPELLINGS = {
    "colour": "color", "colours": "colors", "grey": "gray", "watercolour": "watercolor",
    "colourful": "colorful", "multicoloured": "multicolored", "armour": "armor",
    "harbour": "harbor", "theatre": "theater", "centre": "center", "moustache": "mustache",
    "pyjamas": "pajamas", "aeroplane": "airplane", "doughnut": "donut", "racoon": "raccoon",
    "coloured": "colored", "greyscale": "grayscale", "jewellery": "jewelry", "tyre": "tire",
}  # fmt: skip
_SILENT_H = re.compile(r"(?:hour|honest|honou?r|heir)")
_YOU_SOUND = re.compile(
    r"(?:uni(?![dmn])|u[st][eui]|usa|usu|ufo|uk|eu|ewe|one\b|once|ukul|ura|uto)"
)
_SPELLED_OUT = frozenset("AEFHILMNORSX")


def key(word: str) -> str:
    """The form in which a word is looked up: `key("Grey") == key("gray") == "gray"`."""
    low = word.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _SPELLINGS.get(low, low)


def article(word: str) -> str:
    """ "a" or "an", whichever goes before a text that begins with `word`."""
    word = word.partition(" ")[0]
    low = word.lower()
    if len(word) > 1 and word.isupper() and not any(c in "AEIOU" for c in word[1:]):
        return "an" if word[0] in _SPELLED_OUT else "a"
    if _SILENT_H.match(low) or low.startswith(("8", "11", "18", "x-ray")):
        return "an"
    return "an" if low[:1] in set("aeiouáéíóúàèìòùâêîôûäöü") and not _YOU_SOUND.match(low) else "a"


def gerund(verb: str) -> str:
    """`gerund("ride") == "riding"`."""
    if verb in _GERUNDS:
        return _GERUNDS[verb]
    if verb in _DOUBLED:
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") and not verb.endswith("ee") else verb) + "ing"


def third_person(verb: str) -> str:
    """`third_person("watch") == "watches"`."""
    if verb.endswith(("ch", "sh", "ss", "x", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


FINITE = frozenset(third_person(verb) for verb in words.VERBS) | _IRREGULAR
GERUNDS = {gerund(verb): verb for verb in words.VERBS}
BASES = {third_person(verb): verb for verb in words.VERBS}
# How a verb agrees with several ("sits", "sit") and with one.
PLURAL_VERBS = {"is": "are", "was": "were", "has": "have", **BASES}
SINGULAR_VERBS = {many: one for one, many in PLURAL_VERBS.items()}


def plural(word: str) -> bool:
    """Whether a noun looks plural."""
    irregular = {"men", "women", "people", "children", "mice", "geese", "sheep", "fish", "wolves"}
    return word in irregular or (
        (len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is", "as", "os")))
        and word not in words.S_SINGULARS
    )


def comparative(word: str) -> bool:
    """Whether a word compares with the picture at hand ("bigger"), so that it describes nothing."""
    if not word.endswith("er"):
        return False
    stems = (word[:-2], word[:-1], word[:-3], word[:-3] + "y")
    return any(s in words.ADJECTIVES or s in words.SHADES for s in stems if len(s) > 2)


def adjective(word: str) -> bool:
    """Whether a word before a noun describes it, rather than being half of its name."""
    return (
        word in words.ADJECTIVES
        or word in words.SHADES
        or word.endswith(("ful", "less", "ous", "ish", "able", "ible", "est"))
        or (len(word) > 5 and word.endswith("ing") and word not in words.ING_NOUNS)
        or (len(word) > 4 and word.endswith("ed") and word not in words.ED_NOUNS)
    )
