"""The world that the pocket models know: what can be in a scene, and which scenes are drawn how often.

A batch of scenes is a dictionary of equally long numpy arrays (`Scenes`), one row per scene, so that sampling, editing and
drawing are all vectorised. Attributes are integers into the tables below; `jitter` holds the random numbers that place things, and
stays the same through an edit, so that an edited scene differs from its source only in what was asked.
"""

from __future__ import annotations

import numpy as np

SIZE = 128  # pixels, both ways

# "name|synonym|... glyph"; a star marks glyphs that are a face, which decides where glasses go.
_CREATURES = """
fox|red fox 🦊*; raccoon|racoon|trash panda 🦝*; dog|puppy|doggy 🐶*; cat|kitten|kitty 🐱*; mouse 🐭*; hamster 🐹*; rabbit|bunny 🐰*;
bear|brown bear 🐻*; panda|panda bear 🐼*; koala|koala bear 🐨*; tiger 🐯*; lion 🦁*; cow 🐮*; pig|piglet 🐷*; frog|toad 🐸*; monkey|chimp 🐵*;
gorilla|ape 🦍; chick|baby chicken 🐤; chicken|hen 🐔*; penguin 🐧*; bird|bluebird 🐦; eagle 🦅; duck|mallard 🦆; owl 🦉; bat 🦇; wolf 🐺*;
horse|pony 🐴*; unicorn 🦄*; zebra 🦓; deer|stag 🦌; bee|honeybee 🐝; caterpillar 🐛; butterfly 🦋; snail 🐌; ladybug|ladybird 🐞; ant 🐜;
spider 🕷; scorpion 🦂; turtle|tortoise 🐢; snake|serpent 🐍; lizard|gecko 🦎; t-rex|tyrannosaurus|trex 🦖; dinosaur|brontosaurus|dino 🦕;
octopus 🐙; squid 🦑; shrimp|prawn 🦐; lobster 🦞; crab 🦀; pufferfish|blowfish 🐡; fish|tropical fish 🐠; dolphin 🐬; whale 🐳; shark 🦈;
crocodile|alligator 🐊; elephant 🐘; rhino|rhinoceros 🦏; hippo|hippopotamus 🦛; camel 🐫; giraffe 🦒; kangaroo 🦘; sheep|lamb 🐑; goat 🐐;
llama|alpaca 🦙; peacock 🦚; parrot 🦜; swan 🦢; flamingo 🦩; sloth 🦥; otter 🦦; skunk 🦨; badger 🦡; hedgehog 🦔; squirrel|chipmunk 🐿;
dragon 🐲*; beaver 🦫; seal 🦭; turkey 🦃; rooster 🐓; mammoth|woolly mammoth 🦣; bison|buffalo 🦬; robot|android 🤖*; alien|martian 👽*;
ghost|spook 👻*; skull 💀*; clown 🤡*; snowman ⛄; pumpkin|jack-o-lantern 🎃*; teddy bear|teddy 🧸
"""
_THINGS = """
rocket|spaceship|rocket ship 🚀; car|automobile 🚗; taxi|cab 🚕; bus 🚌; fire truck|fire engine 🚒; tractor 🚜; bicycle|bike 🚲;
train|locomotive|steam train 🚂; plane|airplane|aeroplane ✈; helicopter|chopper 🚁; sailboat|sailing boat|boat ⛵; ufo|flying saucer 🛸;
scooter|moped 🛵; guitar|electric guitar 🎸; violin|fiddle 🎻; trumpet 🎺; drum 🥁; piano|keyboard 🎹; camera 📷; house|home|cottage 🏠;
castle 🏰; telescope 🔭; cactus 🌵; mushroom|toadstool 🍄; sunflower 🌻; tree|oak tree 🌳; palm tree|palm 🌴; christmas tree 🎄; tent ⛺;
clock|alarm clock ⏰; pizza|slice of pizza 🍕; hamburger|burger 🍔; cupcake|muffin 🧁; cake|birthday cake 🎂; donut|doughnut 🍩;
ice cream|icecream|ice cream cone 🍦; apple|red apple 🍎; banana 🍌; watermelon|slice of watermelon 🍉; strawberry 🍓; pineapple 🍍;
avocado 🥑; cheese|piece of cheese 🧀; taco 🌮; sushi 🍣
"""
_ITEMS = """
book|open book|novel 📖; balloon|red balloon 🎈; rose|flower|red rose 🌹; tulip 🌷; umbrella|parasol ☂; sword|dagger 🗡; magic wand|wand 🪄;
lantern|paper lantern 🏮; candle 🕯; key 🔑; gift|present 🎁; cup of coffee|coffee|cup of tea ☕; teapot 🫖; carrot 🥕; lollipop 🍭;
ball|football|soccer ball ⚽; basketball 🏀; kite 🪁; phone|smartphone|mobile phone 📱; laptop|computer 💻; paintbrush|brush 🖌; pencil ✏;
microphone|mic 🎤; trophy|cup|golden cup 🏆; heart|red heart ❤; star|golden star ⭐; diamond|gem|jewel 💎; magnifying glass|magnifier 🔍;
hammer 🔨; flag|red flag 🚩; bell 🔔; envelope|letter ✉; newspaper 📰; rainbow 🌈; moon|crescent moon 🌙; sun 🌞; cloud ☁; fire|campfire|bonfire 🔥
"""
_WEAR = """
crown|golden crown 👑; top hat|cylinder hat 🎩; glasses|spectacles|eyeglasses 👓; sunglasses|shades|dark glasses 🕶;
graduation cap|mortarboard 🎓; baseball cap|cap 🧢; straw hat|sun hat 👒; helmet|rescue helmet ⛑; headphones|earphones 🎧; bow|pink bow|ribbon 🎀;
scarf|red scarf 🧣
"""


def _parse(table: str) -> list[tuple[tuple[str, ...], str, bool]]:
    rows = []
    for entry in table.replace("\n", " ").split(";"):
        names, glyph = entry.strip().rsplit(" ", 1)
        rows.append((tuple(names.split("|")), glyph.rstrip("*"), glyph.endswith("*")))
    return rows


_creatures, _things, _items, _wear = map(_parse, (_CREATURES, _THINGS, _ITEMS, _WEAR))
GLYPHS = _creatures + _things + _items + _wear
NAMES: list[tuple[str, ...]] = [names for names, _, _ in GLYPHS]
CHARACTERS: list[str] = [glyph for _, glyph, _ in GLYPHS]
FACES = np.array([face for _, _, face in GLYPHS])
GLYPH = {names[0]: index for index, names in enumerate(NAMES)}

CREATURES = np.arange(len(_creatures))
SUBJECTS = np.arange(len(_creatures) + len(_things))
WEAR = np.arange(len(GLYPHS) - len(_wear), len(GLYPHS))


def _pick(names: str) -> np.ndarray:
    return np.array([GLYPH[name] for name in names.split(", ")])


HOLDABLE = np.concatenate([
    np.arange(len(SUBJECTS) + 1, len(SUBJECTS) + 33),  # balloon to newspaper; the book is for reading
    _pick("guitar, violin, trumpet, drum, camera, pizza, hamburger, cupcake, cake, donut, ice cream"),
    _pick("apple, banana, watermelon, strawberry, pineapple, cheese, taco, teddy bear, mushroom"),
    _pick("sunflower"),
])  # fmt: skip
BESIDE = np.concatenate([
    HOLDABLE,
    _pick("fire, tree, palm tree, house, castle, tent, cactus, snowman, christmas tree, car, bicycle"),
])  # fmt: skip
ABOVE = _pick("umbrella, rainbow, moon, sun, cloud, star, balloon")

NONE, READING, HOLDING, NEXT_TO, UNDER = range(5)
RELATIONS = ("none", "reading", "holding", "next to", "under")
COLOURS = {
    "white": (248, 248, 246), "black": (26, 26, 30), "gray": (140, 143, 148), "red": (206, 52, 52), "orange": (242, 148, 50),
    "yellow": (246, 214, 76), "green": (76, 160, 84), "blue": (66, 120, 210), "purple": (128, 84, 184), "pink": (244, 164, 192),
}  # fmt: skip
PLACES = ("meadow", "beach", "night", "snow", "space", "sunset")
BACKGROUNDS = (*COLOURS, *PLACES)
STYLES = ("plain", "watercolor", "pixel art", "pencil sketch", "neon sign", "blueprint")
PLAIN, BLUEPRINT = 0, 5
NOTHING = -1  # no object, nothing worn

Scenes = dict[str, np.ndarray]
ATTRIBUTES = ("subject", "wear", "relation", "item", "background", "style")


def sample(n: int, rng: np.random.Generator, held_back: bool = False) -> Scenes:
    """Draw `n` scenes: from the training combinations, or from the held-back ones."""
    scenes = _draw(n, rng)
    while (wrong := is_held_back(scenes) != held_back).any():
        redrawn = _draw(int(wrong.sum()), rng)
        for key in scenes:
            scenes[key][wrong] = redrawn[key]
    return scenes


def _draw(n: int, rng: np.random.Generator) -> Scenes:
    creature = rng.random(n) < 0.72
    subject = np.where(creature, rng.choice(CREATURES, n), rng.choice(SUBJECTS, n))
    creature = subject < len(CREATURES)
    relation = rng.choice(5, n, p=[0.42, 0.1, 0.18, 0.18, 0.12])
    relation = np.where(~creature & (relation <= HOLDING) & (relation > NONE), NEXT_TO, relation)
    scenes: Scenes = {
        "subject": subject,
        "relation": relation,
        "item": pick_item(relation, subject, rng),
        "wear": np.where(
            (rng.random(n) < np.where(creature, 0.3, 0.04)) & (relation != UNDER),
            rng.choice(WEAR, n),
            NOTHING,
        ),
        "background": np.where(
            rng.random(n) < 0.5,
            rng.integers(len(COLOURS), size=n),
            len(COLOURS) + rng.integers(len(PLACES), size=n),
        ),
        "style": np.where(rng.random(n) < 0.4, PLAIN, rng.integers(1, len(STYLES), n)),
        "jitter": rng.random((n, 12), dtype=np.float32),
    }
    return scenes


def pick_item(relation: np.ndarray, subject: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An object that fits each relation and is not the subject itself."""

    def choose() -> np.ndarray:
        n = len(relation)
        options = [
            np.full(n, NOTHING),
            np.full(n, GLYPH["book"]),
            rng.choice(HOLDABLE, n),
            rng.choice(BESIDE, n),
            rng.choice(ABOVE, n),
        ]
        return np.choose(relation, options)

    item = choose()
    while (same := (item == subject)).any():
        item = np.where(same, choose(), item)
    return item


def is_held_back(scenes: Scenes) -> np.ndarray:
    """True for about one in fifty (subject, background, style) combinations: no training picture or edit target has them."""
    code = (scenes["subject"].astype(np.int64) * 16 + scenes["background"]) * 6 + scenes["style"]
    held_back: np.ndarray = (code * 2654435761 % 2**32) // 2**7 % 50 == 0
    return held_back


def shows_background(scenes: Scenes) -> np.ndarray:
    """False where the style leaves no trace of the background: a blueprint of a plain colour is only blue."""
    shown: np.ndarray = (scenes["style"] != BLUEPRINT) | (scenes["background"] >= len(COLOURS))
    return shown


def take(scenes: Scenes, rows: np.ndarray | slice) -> Scenes:
    return {key: value[rows] for key, value in scenes.items()}


def join(*parts: Scenes) -> Scenes:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
