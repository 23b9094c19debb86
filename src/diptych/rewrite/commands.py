"""Read an instruction: strip its politeness, split it into clauses, find each clause's pattern.

A clause becomes one `Edit`, still in the words of the instruction; only `edits` looks at the
description that is to be edited. Regular expressions have at most one lazy gap each and clauses are
short (`LONGEST`), so no text takes more than linear time.
"""

# ruff: noqa: SIM905 - word lists are read more easily as text

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from . import inflection, words
from .grammar import parse
from .scene import tokenize

LONGEST = 600  # characters in a clause; an instruction is longer only by mistake

_WHOSE = r"(?:the |its |his |her |their )?"
_BACKDROP = _WHOSE + r"(?:background|backdrop)(?: colou?r)?"
_SETTING = _WHOSE + r"(?:setting|scenery|location|scene)"
_STYLE = r"(?:the |its )?(?:art ?)?style(?: of (?:it|the (?:picture|image)))?"
_IT = r"(?P<t>it|this|that|him|her|them|everything|the (?:whole )?(?:picture|image|scene|thing))"
_AWAY = r"(?: from (?:the )?(?:picture|image|scene|it|him|her|them|\w+))?"
_TO = r"(?:in)?to"

# The verbs that may open a clause, what may follow them, and the edit this asks for.
_COMMANDS = (
    ("make turn change set switch have use", rf"{_BACKDROP}(?: {_TO}| be| as)? (?P<v>.+)",
     "backdrop"),
    ("replace swap exchange switch", rf"(?:out )?{_BACKDROP} (?:with|for|by|to) (?P<v>.+)",
     "backdrop"),
    ("make turn change set switch have use", rf"{_SETTING}(?: {_TO}| be| as)? (?P<v>.+)", "setting"),
    ("replace swap exchange switch", rf"(?:out )?{_SETTING} (?:with|for|by|to) (?P<v>.+)", "setting"),
    ("make turn change set switch", rf"{_STYLE}(?: {_TO}| be| from .+? to)? (?P<v>.+)", "style"),
    ("make change turn set", rf"(?:the )?colou?r of (?P<t>.+?) {_TO} (?P<v>.+)", "recolour"),
    ("make change turn set", r"(?:the )?colou?r of (?P<v>.+)", "make"),
    ("make change turn set", rf"(?P<t>.+?)(?:'s)? colou?r {_TO} (?P<v>.+)", "recolour"),
    ("substitute", r"(?P<v>.+?) for (?P<t>.+)", "replace"),
    ("replace swap exchange switch substitute", r"(?:out )?(?P<t>.+?)(?: out)? (?:with|for|by) (?P<v>.+)",
     "replace"),
    ("change turn", r"(?P<t>.+?) from (?P<v>.+)", "from_to"),
    ("turn change transform convert morph switch", rf"(?P<t>.+?) {_TO} (?P<v>.+)", "become"),
    ("make", r"(?P<t>.+?) into (?P<v>.+)", "become"),
    ("make have let get", rf"{_IT} (?P<v>(?:look|appear|seem) .+)", "be"),
    ("have let make get", r"(?P<t>it|him|her|them|the .+?) (?:be|to be|become) (?P<v>.+)", "be"),
    ("make turn have let", r"(?P<v>.+)", "make"),
    ("draw redraw paint render redo recreate show try do depict style restyle", rf"{_IT} (?P<v>.+)",
     "be"),
    ("recolor recolour color colour dye tint paint", rf"(?P<t>.+?) (?:{_TO}|in|as) (?P<v>.+)", "be"),
    ("recolor recolour color colour dye tint paint", r"(?P<v>.+)", "make"),
    ("add include insert attach draw", r"(?P<v>.+)", "add"),
    ("put place set move stick bring send take transport relocate", rf"{_IT} {_TO} (?P<v>.+)",
     "move"),
    ("move bring send take transport relocate", rf"(?P<t>.+?) {_TO} (?P<v>.+)", "move"),
    ("take", rf"(?:off|away|out) (?P<t>.+?){_AWAY}", "remove"),
    ("take", r"(?P<t>.+?) (?:off|away|out)(?: of .+| from .+)?", "remove"),
    ("put place set stick", r"on (?P<v>.+)", "add"),
    ("put", r"(?P<v>.+) on", "add"),
    ("put place set stick move show", r"(?P<v>.+)", "put"),
    ("give", r"(?P<v>.+? to .+)", "add"),
    ("give", r"(?P<v>.+)", "give"),
    ("remove delete erase drop eliminate lose", rf"(?P<t>.+?){_AWAY}", "remove"),
    ("get", rf"rid of (?P<t>.+?){_AWAY}", "remove"),
    ("cut", rf"out (?P<t>.+?){_AWAY}", "remove"),
    ("use try", r"(?P<v>.+)", "scene"),
    ("keep leave preserve retain maintain", r".+", "keep"),
    ("without minus", r"(?P<t>.+)", "remove"),
    ("no", r"(?:more )?(?P<t>.+)", "remove"),
    ("with", r"(?:no|out) (?P<t>.+)", "remove"),
)  # fmt: skip

_MODAL = r"(?:should|must|needs? to|has to|ought to|could|would|shall|will|can)(?: now| also)?"
_THING = r"(?P<t>it|he|she|they|this|that|the (?:\S+ ){0,5}?\S+|there)"
# Statements about the new picture: "it should be a raccoon", "the dog is now a cat".
_STATEMENTS = (
    (rf"there (?:{_MODAL} be|is|are) (?:no|not any) (?P<t>.+)", "remove"),
    (rf"there (?:{_MODAL} be|is|are) (?P<v>.+)", "add"),
    (rf"{_THING} (?:should(?:n't| not)|must not|is not|isn't) (?:have|wear|wearing|hold|holding) "
     r"(?:a |an |any )?(?P<v>.+)", "lack"),
    (rf"{_THING} (?:{_MODAL} |to )(?:be|become|turn into)(?: now)? (?P<v>.+)", "be"),
    (rf"{_THING} (?:{_MODAL} |to )(?:have|get) (?P<v>.+)", "have"),
    (rf"{_THING} (?:{_MODAL}|to) (?P<v>.+)", "be"),
    (rf"{_THING} (?:is|are|was|were|becomes)(?: now| actually| really)? (?P<v>.+)", "be"),
    (rf"{_THING} (?:has|have|gets) (?P<v>.+)", "have"),
    (r"(?P<t>it|he|she|they) (?P<v>.+)", "be"),
)  # fmt: skip
_INSTEAD = r"(?P<v>.+?),? (?:instead|in place|rather) (?:of|than) (?P<t>.+)"
_INSTEAD_FIRST = (
    r"(?:instead of|rather than) (?P<t>[^,]+?)(?:,| (?=make |use |have |put ))\s*(?P<v>.+)"
)
_VERSION = (
    r"(?:(?:make|create|generate|do|draw|give|show|produce|try)(?: me| us)? )?(?:it )?"
    r"(?P<v>\S.*?) (?:version|variant|variation|edition)"
    r"(?: of (?:it|this|that|the (?:picture|image|scene)))?"
)
_VARIANT = (
    r"(?:(?:make|create|generate|do|draw|give|show|produce|try)(?: me| us)? )?"
    r"(?:a|an|another|one more|the same)(?: new| different| second)? ?"
    r"(?:variant|variation|version|copy|edit|picture|image|one|scene|thing)?"
    r"(?: of (?:it|this|that|the (?:picture|image|scene)))?,? "
    r"(?:where|in which|but(?: this time)?(?: with| where)?|so that|that has|which has|except(?: that)?) "
)
_VARIANT_WITH = (
    r"(?:make|create|generate|do|draw|give|show|produce|try)(?: me| us)? (?:a|an|another|one more)"
    r"(?: new| different| second)? (?:variant|variation|version|copy|edit)"
    r"(?: of (?:it|this|that|the (?:picture|image|scene)))? (?=with|without|in |at |on |as |under )"
)
_POLITE = (
    r"(?:please|kindly|and|but|also|just|only|simply|actually|maybe|perhaps|finally|"
    r"(?:ok(?:ay)?|hey|hi|hello|thanks|thank you|great|nice|perfect|cool|good|well|so|next|hmm|"
    r"yes|lovely|wonderful|awesome|no)(?=[,!.:])|ok(?:ay)?|so|"
    r"(?:can|could|would|will) (?:you|we|i (?:have|get|see))|i wish|let's|let us|go ahead and|try to|"
    r"(?:i would|i'd|we'd|we would) (?:like|love|prefer)(?: to (?:see|have|get))?(?: you to)?|"
    r"(?:i|we) (?:want|need)(?: you)?(?: to (?:see|have|get))?|you should)"
    r"(?=[\s,:!.]|$)[\s,:!.]*(?:to (?=(?:make|turn|change|add|remove|replace|put|give|have|swap|"
    r"paint|take|move|draw|generate|create)\b))?"
)
_MARKER = (
    r"(?:now|then|what if|what about|how about|instead|this time|"
    r"(?:(?:the|exactly the) )?same(?: (?:picture|image|thing|scene|one|but|again))?,? but(?: this time)?"
    r")(?![\w']| of\b)[\s,:!.]*"
)
_TAIL = (
    r"[\s,.!?;:]*\b(?:please|thanks|thank you|now|too|as well|this time|again|for me|okay|ok|then)"
    r"[\s.!?;:,]*"
)
_SAME = r"(?:(?:the |exactly the )?same(?: (?:picture|image|thing|scene|one))?)?"
_BREAK = r"[;.!?]+\s+|,?\s+(?:and then|then|but|plus|and also)\s+|,\s*(?:and\s+)?|\s+and\s+|\n+"
# "Draw a fox" asks for a new picture; "paint the door" and "make it" ask for a change of this one.
_REQUEST = (
    r"(?:(?P<sure>generate|draw|create|produce|design|sketch|illustrate|imagine|depict|visuali[sz]e)|"
    r"make|paint|render|(?:show|give|get) (?:me|us))(?: (?:me|us))?\s+"
    r"(?P<rest>(?P<new>an?|some|one|two|three|four|five|six|several|many)?\b.+)"
)
_MEDIUM = (
    r"(?:an?|the|one|some) (?:new |nice )?(?:picture|image|depiction)s?(?: of| showing| with)\s+"
)
_ABOUT_THIS = (
    r"(?:it|this|that|him|her|them)\b|.+ (?:on|to|onto|next to|beside) (?:it|him|her|them)\Z"
)
_ASSERTS = (
    r"(?:it|he|she|they)(?:'s| (?:is|was|were|should|shouldn't|must|needs? to|could|would)) |"
    r"there (?:should|must|shouldn't)\b|(?:it|him|her|them) (?:in|on|at|as|with|to)\b|"
    r"the (?:\S+ ){1,5}(?:should|must|needs to|is now|are now|to be|to have|to wear)\b|no \w|more \w|less \w|fewer \w"
)
_NEW = frozenset("a an some one two three four five six several many".split())
_HARD = frozenset("add put give remove delete erase replace recolor recolour substitute".split())
_NEXT = (
    words.DETERMINERS | words.PRONOUNS | words.SETTINGS
    | frozenset("everything out off away on rid me both".split())
)  # fmt: skip
_OPENERS = frozenset(
    """it he she they there now same instead what how it's he's she's they're no there's""".split()
)


@dataclass(frozen=True, slots=True)
class Edit:
    """`action` names a function of `edits`; `target` and `value` are words of the instruction."""

    action: str
    target: str = "it"
    value: str = ""


@cache
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source, re.IGNORECASE)


@cache
def _by_verb() -> dict[str, list[tuple[str, str]]]:
    table: dict[str, list[tuple[str, str]]] = {}
    for verbs, pattern, action in _COMMANDS:
        for verb in verbs.split():
            table.setdefault(verb, []).append((pattern, action))
    return table


def plain(text: str) -> str:
    """Straight quotes and single spaces."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace(
        "\N{LEFT SINGLE QUOTATION MARK}", "'"
    )
    return " ".join(text.split())


def strip_polite(text: str) -> tuple[str, bool]:
    """`text` without its politeness, and whether it carried a word like "now" or "instead"."""
    marked = False
    text = text.strip(" \"'“”,.!?;:…")
    while found := _pattern(f"{_POLITE}|(?P<marker>{_MARKER})").match(text):
        marked = marked or found["marker"] is not None
        text = text[found.end() :]
    while tail := _pattern(_TAIL + r"\Z").search(text[-40:]):
        marked = marked or "now" in tail[0].lower() or "this time" in tail[0].lower()
        text = text[: len(text) - len(tail[0])]
    text = text.rstrip(" \"'“”,.!?;:…")
    if text.lower().endswith(" instead"):
        return text[:-8].rstrip(" ,"), True
    return text, marked


def strip_variant(text: str) -> tuple[str, bool]:
    """`text` without an opening like "make a variant where", and whether there was one."""
    found = _pattern(_VARIANT).match(text) or _pattern(_VARIANT_WITH).match(text)
    return (text[found.end() :], True) if found else (text, False)


def requested(text: str) -> str | None:
    """The description in a request for a new picture ("Draw a fox"), None for anything else."""
    whole = plain(text)
    bare = strip_polite(whole)[0]
    last = whole[-12:].lower().rstrip(" .!?")
    if strip_variant(bare)[1] or last.endswith("instead") or _pattern(_VERSION).fullmatch(bare):
        return None
    found = _pattern(_REQUEST).match(bare)
    if found and (found["sure"] or found["new"]):
        rest = found["rest"]
        if _pattern(_ABOUT_THIS).match(rest) or (not found["sure"] and " into " in rest.lower()):
            return None
    elif _pattern(r"(?:please |hi,? |hello,? )?(?:i|we|can i|could i|may i)\b").match(whole) and (
        bare != whole and {token.key for token in tokenize(bare[:20])[:1]} & _NEW
    ):
        rest = bare
    else:
        return None
    medium = _pattern(_MEDIUM).match(rest)
    return rest[medium.end() :] if medium else rest


def instructs(text: str) -> bool:
    """Whether `text`, which is no request for a new picture, asks for a change."""
    bare, marked = strip_polite(plain(text))
    tokens = tokenize(bare[:LONGEST])
    if marked or not tokens or strip_variant(bare)[1]:
        return marked or bool(tokens)
    first, second = tokens[0].key, tokens[1].key if len(tokens) > 1 else ""
    if _pattern(_ASSERTS).match(bare) or _pattern(r"(?:.+? )?(?:instead of|rather than) ").match(
        bare
    ):
        return True
    if first in _HARD:
        return bool(second)
    if first in _by_verb():
        joined = _pattern(r"\S+ .+? (?:into|to|with|for) ").match(bare)
        return second in _NEXT or second in words.COLOURS or (bool(second) and bool(joined))
    return first in words.PREPOSITIONS and not parse(bare).subjects()


def clauses(text: str) -> list[list[str]]:
    """The clauses of a compound instruction, each as the pieces that commas and "and" make of it.

    A piece that does not open like an instruction belongs to the clause before it, so that "add a
    hat and a scarf" is one clause of two pieces. The first item of each list is the whole clause.
    """
    text = plain(text).strip(" ,;.!?")
    spans: list[list[tuple[int, int]]] = []
    start = 0
    waits = False
    for stop, after in [*((m.start(), m.end()) for m in _pattern(_BREAK).finditer(text)), (-1, -1)]:
        end = len(text) if stop < 0 else stop
        piece = text[start:end]
        contrast = _pattern(r"(?:instead of|rather than) ").match(piece)
        if spans and (waits or contrast or not _opens(piece)):
            spans[-1].append((start, end))
        elif strip_polite(piece) != ("", False):
            spans.append([(start, end)])
        waits = bool(contrast and spans and len(spans[-1]) == 1)
        start = after
    return [[text[s[0][0] : s[-1][1]], *(text[a:b] for a, b in s)] for s in spans]


def clause(text: str) -> Edit:
    """The edit that one clause asks for."""
    bare, marked = strip_polite(text)
    bare, variant = strip_variant(bare)
    bare = _pattern(r"(?:where|in which) ").sub("", bare, count=1) if variant or marked else bare
    bare, more = strip_polite(bare) if variant else (bare, False)
    bare = _pattern(r"\b(it|he|she|that|there)'s\b").sub(r"\1 is", bare)
    for pattern, action in (
        (_INSTEAD_FIRST, "instead"), (_INSTEAD, "instead"), (_VERSION, "be"), *_STATEMENTS
    ):  # fmt: skip
        if found := _pattern(pattern).fullmatch(bare):
            return _edit(action, found)
    if _pattern(_SAME).fullmatch(bare):
        return Edit("keep")
    first, _, rest = bare.partition(" ")
    for pattern, action in _by_verb().get(_verb(first.lower()), ()):
        if found := _pattern(pattern).fullmatch(rest):
            return _edit(action, found)
    prepositional = inflection.key(first) in words.PREPOSITIONS
    return Edit("be" if prepositional or marked or variant or more else "scene", value=bare)


def _edit(action: str, found: re.Match[str]) -> Edit:
    named = found.groupdict()
    return Edit(action, named.get("t") or "it", named.get("v") or "")


def _verb(word: str) -> str:
    """ "making" and "make" open the same clauses ("how about making it a cat")."""
    if not word.endswith("ing"):
        return word
    stems = (word[:-3], word[:-3] + "e", word[:-4])
    return next((stem for stem in stems if stem in _by_verb()), word)


def _opens(piece: str) -> bool:
    bare, marked = strip_polite(piece)
    first = inflection.key(bare.partition(" ")[0])
    return (
        marked
        or _verb(first) in _by_verb()
        or first in words.PREPOSITIONS
        or first in _OPENERS
        or _pattern(r"the (?:\S+ ){1,4}(?:should|must|needs?|is|are)\b").match(bare) is not None
    )
