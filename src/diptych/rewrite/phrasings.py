"""The phrasings that are understood, as regular expressions with at most one lazy gap each."""

# ruff: noqa: SIM905 - word lists are read more easily as text

from __future__ import annotations

from . import words

_WHOSE = r"(?:the |its |his |her |their )?"
_BACKDROP = _WHOSE + r"(?:background|backdrop)(?: colou?r)?"
_SETTING = _WHOSE + r"(?:setting|scenery|location|scene)"
_STYLE = r"(?:the |its )?(?:art ?)?style(?: of (?:it|the (?:picture|image)))?"
_IT = r"(?P<t>it|this|that|him|her|them|everything|the (?:whole )?(?:picture|image|scene|thing))"
_AWAY = r"(?: from (?:the )?(?:picture|image|scene|it|him|her|them|\w+))?"
_TO = r"(?:in)?to"

# The verbs that may open a clause, what may follow them, and the edit this asks for.
COMMANDS = (
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
STATEMENTS = (
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
INSTEAD = r"(?P<v>.+?),? (?:instead|in place|rather) (?:of|than) (?P<t>.+)"
INSTEAD_FIRST = (
    r"(?:instead of|rather than) (?P<t>[^,]+?)(?:,| (?=make |use |have |put ))\s*(?P<v>.+)"
)
VERSION = (
    r"(?:(?:make|create|generate|do|draw|give|show|produce|try)(?: me| us)? )?(?:it )?"
    r"(?P<v>\S.*?) (?:version|variant|variation|edition)"
    r"(?: of (?:it|this|that|the (?:picture|image|scene)))?"
)
VARIANT = (
    r"(?:(?:make|create|generate|do|draw|give|show|produce|try)(?: me| us)? )?"
    r"(?:a|an|another|one more|the same)(?: new| different| second)? ?"
    r"(?:variant|variation|version|copy|edit|picture|image|one|scene|thing)?"
    r"(?: of (?:it|this|that|the (?:picture|image|scene)))?,? "
    r"(?:where|in which|but(?: this time)?(?: with| where)?|so that|that has|which has|except(?: that)?) "
)
VARIANT_WITH = (
    r"(?:make|create|generate|do|draw|give|show|produce|try)(?: me| us)? (?:a|an|another|one more)"
    r"(?: new| different| second)? (?:variant|variation|version|copy|edit)"
    r"(?: of (?:it|this|that|the (?:picture|image|scene)))? (?=with|without|in |at |on |as |under )"
)
POLITE = (
    r"(?:please|kindly|and|but|also|just|only|simply|actually|maybe|perhaps|finally|"
    r"(?:ok(?:ay)?|hey|hi|hello|thanks|thank you|great|nice|perfect|cool|good|well|so|next|hmm|"
    r"yes|lovely|wonderful|awesome|no)(?=[,!.:])|ok(?:ay)?|so|"
    r"(?:can|could|would|will) (?:you|we|i (?:have|get|see))|i wish|let's|let us|go ahead and|try to|"
    r"(?:i would|i'd|we'd|we would) (?:like|love|prefer)(?: to (?:see|have|get))?(?: you to)?|"
    r"(?:i|we) (?:want|need)(?: you)?(?: to (?:see|have|get))?|you should)"
    r"(?=[\s,:!.]|$)[\s,:!.]*(?:to (?=(?:make|turn|change|add|remove|replace|put|give|have|swap|"
    r"paint|take|move|draw|generate|create)\b))?"
)
MARKER = (
    r"(?:now|then|what if|what about|how about|instead|this time|"
    r"(?:(?:the|exactly the) )?same(?: (?:picture|image|thing|scene|one|but|again))?,? but(?: this time)?"
    r")(?![\w']| of\b)[\s,:!.]*"
)
TAIL = (
    r"[\s,.!?;:]*\b(?:please|thanks|thank you|now|too|as well|this time|again|for me|okay|ok|then)"
    r"[\s.!?;:,]*"
)
SAME = r"(?:(?:the |exactly the )?same(?: (?:picture|image|thing|scene|one))?)?"
BREAK = r"[;.!?]+\s+|,?\s+(?:and then|then|but|plus|and also)\s+|,\s*(?:and\s+)?|\s+and\s+|\n+"
# "Draw a fox" asks for a new picture; "paint the door" and "make it" ask for a change of this one.
REQUEST = (
    r"(?:(?P<sure>generate|draw|create|produce|design|sketch|illustrate|imagine|depict|visuali[sz]e)|"
    r"make|paint|render|(?:show|give|get) (?:me|us))(?: (?:me|us))?\s+"
    r"(?P<rest>(?P<new>an?|some|one|two|three|four|five|six|several|many)?\b.+)"
)
MEDIUM = (
    r"(?:an?|the|one|some) (?:new |nice )?(?:picture|image|depiction)s?(?: of| showing| with)\s+"
)
ABOUT_THIS = (
    r"(?:it|this|that|him|her|them)\b|.+ (?:on|to|onto|next to|beside) (?:it|him|her|them)\Z"
)
ASSERTS = (
    r"(?:it|he|she|they)(?:'s| (?:is|was|were|should|shouldn't|must|needs? to|could|would)) |"
    r"there (?:should|must|shouldn't)\b|(?:it|him|her|them) (?:in|on|at|as|with|to)\b|"
    r"the (?:\S+ ){1,5}(?:should|must|needs to|is now|are now|to be|to have|to wear)\b|no \w|more \w|less \w|fewer \w"
)
NEW = frozenset("a an some one two three four five six several many".split())
HARD = frozenset("add put give remove delete erase replace recolor recolour substitute".split())
NEXT = (
    words.DETERMINERS | words.PRONOUNS | words.SETTINGS
    | frozenset("everything out off away on rid me both".split())
)  # fmt: skip
OPENERS = frozenset(
    """it he she they there now same instead what how it's he's she's they're no there's""".split()
)
