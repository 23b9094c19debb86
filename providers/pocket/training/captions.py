"""The caption grammar: many ways to say what is in a scene.

A caption always names the subject, what it wears, its object, a place, and a style other than plain. A plain-coloured background and the plain style may
be left out, so a terse prompt gets some colour as its background. Filler words and misspellings are mixed in, so that words the model does not
know do little harm.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

from training.world import (
    BACKGROUNDS,
    BLUEPRINT,
    COLOURS,
    HOLDING,
    NAMES,
    NEXT_TO,
    NONE,
    NOTHING,
    PLAIN,
    READING,
    STYLES,
    UNDER,
    Scenes,
)

WEARING = (
    "wearing {}",
    "wearing {}",
    "with {} on",
    "in {}",
    "with {}",
    "that wears {}",
    "who is wearing {}",
    "dressed in {}",
    "sporting {}",
)
RELATION_WORDS = {
    READING: (
        "reading {}",
        "reading {}",
        "reading {}",
        "reads {}",
        "with {}",
        "who is reading {}",
        "that reads {}",
        "studying {}",
    ),
    HOLDING: (
        "holding {}",
        "holding {}",
        "with {}",
        "carrying {}",
        "that holds {}",
        "who is holding {}",
        "who has {}",
        "and {}",
    ),
    NEXT_TO: (
        "next to {}",
        "next to {}",
        "beside {}",
        "by {}",
        "near {}",
        "and {}",
        "standing next to {}",
        "sitting beside {}",
        "with {} beside it",
    ),
    UNDER: (
        "under {}",
        "under {}",
        "beneath {}",
        "below {}",
        "underneath {}",
        "sitting under {}",
        "with {} above it",
    ),
}
COLOUR_WORDS = {"gray": ("gray", "grey"), "purple": ("purple", "purple", "violet")}
COLOUR_PHRASES = (
    "on a {} background", "on a {} background", "with a {} background", "on {}", "against a {} background", "in front of a {} background",
    "against {}", "{} background", "on a plain {} background", "in front of a {} wall", "against a {} backdrop",
)  # fmt: skip
PLACE_PHRASES = {
    "meadow": (
        "in a meadow", "in a meadow", "in the meadow", "on a meadow", "on the grass", "in a field", "in a green field", "in a park",
        "on a green hill", "in the grass", "in the countryside", "in a garden", "outdoors in a meadow",
    ),
    "beach": (
        "on the beach", "on the beach", "on a beach", "at the beach", "at the seaside", "by the sea", "on a sandy beach", "by the ocean",
        "at the shore", "on the sand", "on a tropical beach", "at the sea",
    ),
    "night": (
        "at night", "at night", "at night", "in the night", "by night", "in the moonlight", "at midnight", "under the night sky",
        "in the dark", "on a starry night", "during the night", "in front of the night sky",
    ),
    "snow": (
        "in the snow", "in the snow", "in snow", "in winter", "in a snowy landscape", "in a snowstorm", "on a snowy day", "while it is snowing",
        "in the winter", "in a winter landscape", "standing in the snow", "in falling snow",
    ),
    "space": (
        "in space", "in space", "in outer space", "in the cosmos", "among the stars", "in the universe", "floating in space", "in a galaxy",
        "in deep space", "with space in the background",
    ),
    "sunset": (
        "at sunset", "at sunset", "at dusk", "in the evening", "at sundown", "during sunset", "in front of a sunset", "in the sunset",
        "in the evening light", "at golden hour", "with a sunset behind it",
    ),
}  # fmt: skip
PLACE_TAGS = {
    "meadow": ("meadow", "grass", "field"), "beach": ("beach", "seaside", "sea"), "night": ("night", "night sky", "moonlight"),
    "snow": ("snow", "winter", "snowy"), "space": ("space", "outer space", "galaxy"), "sunset": ("sunset", "dusk", "evening"),
}  # fmt: skip
# (before "of a fox", after "a fox ...", as a tag or an adjective)
STYLE_WORDS = {
    "plain": (
        ("a picture", "an image", "an illustration", "a drawing", "an emoji", "an icon", "a sticker", "a photo", "a cartoon", "a portrait"),
        ("as an emoji", "in a plain style", "as a sticker", "in flat colours", "in emoji style", "in a cartoon style"),
        ("emoji", "plain", "sticker", "cartoon", "plain style"),
    ),
    "watercolor": (
        ("a watercolor", "a watercolor", "a watercolour", "a watercolor painting", "a watercolour painting", "an aquarelle", "a painting"),
        ("in watercolor", "painted in watercolor", "as a watercolor", "in watercolour", "in watercolor style", "as a watercolour painting", "in water colors"),
        ("watercolor", "watercolour", "watercolor painting", "watercolor style", "aquarelle"),
    ),
    "pixel art": (
        ("pixel art", "a pixel art picture", "a pixel art image", "an 8-bit picture", "a pixelated picture", "a piece of pixel art", "a retro game sprite"),
        ("as pixel art", "in pixel art", "in pixel art style", "in pixels", "in 8-bit style", "in retro video game style"),
        ("pixel art", "pixelated", "8-bit", "8 bit", "pixel"),
    ),
    "pencil sketch": (
        ("a pencil sketch", "a pencil sketch", "a pencil drawing", "a sketch", "a hand-drawn sketch", "a black and white sketch", "a graphite drawing"),
        ("as a pencil sketch", "in pencil", "drawn in pencil", "sketched in pencil", "as a sketch", "in pencil sketch style", "drawn with a pencil"),
        ("pencil sketch", "sketch", "pencil", "pencil drawing"),
    ),
    "neon sign": (
        ("a neon sign", "a neon sign", "a neon sign picture", "a glowing neon sign", "a neon light", "a neon picture", "a neon artwork"),
        ("as a neon sign", "in neon", "in neon lights", "as a glowing neon sign", "in neon style", "made of neon lights"),
        ("neon sign", "neon", "neon lights", "glowing neon"),
    ),
    "blueprint": (
        ("a blueprint", "a blueprint", "a technical drawing", "a technical blueprint", "an engineering drawing", "a cyanotype"),
        ("as a blueprint", "in blueprint style", "as a technical drawing", "drawn as a blueprint", "in the style of a blueprint"),
        ("blueprint", "technical drawing", "blueprint style", "cyanotype"),
    ),
}  # fmt: skip
LEADS = (
    "generate", "generate", "draw", "create", "paint", "make", "please draw", "please generate", "i want", "i would like", "can you draw",
    "show me", "draw me", "give me", "imagine", "make me", "could you paint", "produce", "render", "let's see", "hello, please make", "now draw",
)  # fmt: skip
FILLERS = (
    "cute", "happy", "little", "small", "big", "beautiful", "funny", "lovely", "friendly", "sleepy", "curious", "old", "young", "adorable", "brave",
    "tiny", "fluffy", "nice", "simple", "cheerful", "wise", "sad", "angry", "proud", "magical", "single", "fancy", "elegant", "clever", "cool",
)  # fmt: skip
QUALITY = (
    "highly detailed", "4k", "masterpiece", "best quality", "minimalist", "for a children's book", "for my daughter", "full of joy", "very nice",
    "trending", "high resolution", "centered", "on its own", "as a gift", "thank you", "with great detail", "in the middle", "looking at the viewer",
)  # fmt: skip


def phrases() -> Iterator[str]:
    """Every text of the tables: names and phrases, which may hold a "{}"."""
    for names in NAMES:
        yield from names
    for table in (RELATION_WORDS, PLACE_PHRASES, PLACE_TAGS, COLOUR_WORDS):
        for texts in table.values():
            yield from texts
    for forms in STYLE_WORDS.values():
        for texts in forms:
            yield from texts
    yield from (*WEARING, *COLOUR_PHRASES, *BACKGROUNDS, *STYLES, *LEADS, *FILLERS, *QUALITY)


def article(noun: str, r: random.Random) -> str:
    """`noun` with "a" or "an", at times with "the" or with nothing."""
    if noun in (
        "glasses",
        "sunglasses",
        "spectacles",
        "eyeglasses",
        "headphones",
        "earphones",
        "shades",
        "dark glasses",
        "coffee",
        "sushi",
        "cheese",
    ):
        return (
            r.choice((noun, noun, f"a pair of {noun}"))
            if noun.endswith("s") and noun != "sushi"
            else noun
        )
    if noun in ("sun", "moon", "rainbow", "stars") and r.random() < 0.6:
        return f"the {noun}"
    roll = r.random()
    if roll < 0.06:
        return noun
    if roll < 0.09:
        return f"one {noun}"
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith(('uni', 'ufo')) else 'a'} {noun}"


def name(glyph: int, r: random.Random) -> str:
    """The glyph's first name, or now and then another."""
    names = NAMES[glyph]
    return names[0] if r.random() < 0.7 else r.choice(names)


def colour(background: int, r: random.Random) -> str:
    word = BACKGROUNDS[background]
    return r.choice(COLOUR_WORDS.get(word, (word,)))


def background_phrase(background: int, r: random.Random) -> str:
    if background < len(COLOURS):
        return r.choice(COLOUR_PHRASES).format(colour(background, r))
    return r.choice(PLACE_PHRASES[BACKGROUNDS[background]])


def nonsense(r: random.Random) -> str:
    """A word that means nothing."""
    return "".join(
        r.choice("bcdfghjklmnprstvwz") + r.choice("aeiou") for _ in range(r.randint(2, 4))
    ) + r.choice(("", "n", "r", "x", "s"))


def caption(scenes: Scenes, row: int, r: random.Random) -> str:
    subject, wear, relation, item, background, style = (
        int(scenes[key][row])
        for key in ("subject", "wear", "relation", "item", "background", "style")
    )
    plain_ground = background < len(COLOURS)
    say_background = not (style == BLUEPRINT and plain_ground) and (
        not plain_ground or r.random() < 0.7
    )
    form = r.random()
    if form < 0.22:
        text = _tags(
            subject, wear, relation, item, background if say_background else None, style, r
        )
    else:
        text = _sentence(
            subject, wear, relation, item, background if say_background else None, style, r
        )
    return dress(text, r)


def _details(wear: int, relation: int, item: int, r: random.Random) -> list[str]:
    details = []
    if wear != NOTHING:
        details.append(r.choice(WEARING).format(article(name(wear, r), r)))
    if relation != NONE:
        details.append(r.choice(RELATION_WORDS[relation]).format(article(name(item, r), r)))
    if len(details) == 2 and r.random() < 0.5:
        details.reverse()
    return details


def _sentence(
    subject: int,
    wear: int,
    relation: int,
    item: int,
    background: int | None,
    style: int,
    r: random.Random,
) -> str:
    noun = name(subject, r)
    if r.random() < 0.18:
        noun = f"{r.choice(FILLERS) if r.random() < 0.75 else nonsense(r)} {noun}"
    details = _details(wear, relation, item, r)
    joined = r.choice((" and ", " and ", " ", ", ")).join(details)
    ground = background_phrase(background, r) if background is not None else ""
    before, after, adjective = STYLE_WORDS[STYLES[style]]
    kind = r.random()
    body = article(noun, r)
    if style == PLAIN and kind < 0.5:
        lead, tail = "", ""
    elif kind < 0.75:
        lead, tail = r.choice(before), ""
    elif kind < 0.95 or style == PLAIN:
        lead, tail = "", r.choice(after)
    else:
        lead, tail, body = "", "", article(f"{r.choice(adjective)} {noun}", r)
    scene = [body, joined, ground]
    if ground and r.random() < 0.15:
        scene = [ground + ",", body, joined] if r.random() < 0.5 else [body, ground, joined]
    text = " ".join(part for part in scene if part)
    if lead:
        text = f"{lead} {r.choice(('of', 'of', 'of', 'showing', 'with'))} {text}"
    if tail:
        text = (
            f"{text}{r.choice((' ', ', '))}{tail}"
            if r.random() < 0.8
            else f"{tail}{r.choice((', ', ': '))}{text}"
        )
    if r.random() < 0.35:
        text = f"{r.choice(LEADS)} {text}"
    if r.random() < 0.06:
        text = f"{text}, {r.choice(QUALITY)}"
    return text


def _tags(
    subject: int,
    wear: int,
    relation: int,
    item: int,
    background: int | None,
    style: int,
    r: random.Random,
) -> str:
    """Terse prompts: "watercolor fox, crown, snow"."""
    words = [r.choice((name(subject, r), name(subject, r), article(name(subject, r), r)))]
    if wear != NOTHING:
        words.append(
            r.choice(
                (name(wear, r), f"wearing {name(wear, r)}", f"with {article(name(wear, r), r)}")
            )
        )
    if relation != NONE:
        words.append(
            r.choice(RELATION_WORDS[relation]).format(
                r.choice((name(item, r), article(name(item, r), r)))
            )
        )
    if background is not None:
        short = (
            colour(background, r) + " background"
            if background < len(COLOURS)
            else r.choice(PLACE_TAGS[BACKGROUNDS[background]])
        )
        words.append(r.choice((short, background_phrase(background, r))))
    if style != PLAIN or r.random() < 0.1:
        word = r.choice(STYLE_WORDS[STYLES[style]][2])
        words.insert(r.choice((0, len(words))), word)
    if r.random() < 0.05:
        words.append(r.choice((*QUALITY, nonsense(r))))
    return r.choice((", ", ", ", " ", " ")).join(words)


def dress(text: str, r: random.Random) -> str:
    """Misspell a few letters and end with or without a full stop; letter case is the tokenizers' business."""
    if r.random() < 0.03:
        at = r.randrange(len(text))
        text = text[:at] + r.choice(("", r.choice(string.ascii_lowercase))) + text[at + 1 :]
    return text + r.choice(("", "", "", ".", ".", "!" if r.random() < 0.2 else ""))
