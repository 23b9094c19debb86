"""The closed vocabulary of the rewriter.

Every set holds keys: lower case, straight apostrophes, American spelling (see `key`). Open classes
(animals, things, names) are never listed; they are recognised by where they stand.
"""

# ruff: noqa: SIM905 - word lists are read more easily as text

from __future__ import annotations

PRONOUNS = frozenset("it him her them this that one he she they".split())
PICTURE = frozenset("""picture image photo scene everything artwork drawing painting""".split())
BACKDROPS = frozenset(["background", "backdrop"])
SETTINGS = BACKDROPS | frozenset(["setting", "scenery", "location", "surroundings"])

ARTICLES = frozenset(["a", "an"])
OWNERS = frozenset("its his her their my your our".split())
COUNTS = frozenset("two three four five six seven eight nine ten twelve".split())
VAGUE = frozenset("bit little lot touch hour minute moment while kind sort type way".split())
PLURALS = COUNTS | frozenset("several many some both few these those multiple all".split())
DETERMINERS = (
    ARTICLES | OWNERS | PLURALS | frozenset("the this that one another each every no".split())
)

# Longest first: "in front of" must win over "in".
LONG_PREPOSITIONS = (
    ("in", "front", "of"),
    ("on", "top", "of"),
    ("on", "the", "back", "of"),
    ("next", "to"),
    ("close", "to"),
    ("out", "of"),
)
PREPOSITIONS = frozenset(
    """in on at under over above below beneath behind beside near by with without against inside
    outside into onto through across along between among amid around during beyond towards
    toward to from like as for after before off up down about within underneath atop""".split()
)
# The prepositions that may say when, and where, a picture is set.
WHEN = frozenset("at in during by on under".split())
WHERE = frozenset(
    "in on at by against inside under above over outside amid among through across".split()
)
# What a bare "on a skateboard" or "with a hat" may open with.
RELATING = frozenset(
    """in on at under over above below beneath behind beside near by with without against inside
    outside between among amid around through across along next close underneath atop""".split()
)
CONJUNCTIONS = frozenset("and or but while plus &".split())
RELATIVES = frozenset("that who which whose where".split())
AUXILIARIES = frozenset("is are was were be has have had isn't aren't".split())

COLOURS = frozenset(
    """red orange yellow green blue purple violet pink brown black white gray silver gold golden
    beige teal turquoise cyan magenta maroon crimson scarlet navy indigo lavender lilac ivory
    cream tan bronze copper emerald ruby sapphire olive lime mint coral salmon peach burgundy
    mustard rainbow multicolored colorful ginger blond blonde amber khaki""".split()
)
SHADES = frozenset(
    """dark light bright pale deep neon pastel vivid soft hot sky royal electric baby solid plain
    dull very""".split()
)

# Two adjectives of one kind exclude each other: "a big cat" takes the place of "small".
ADJECTIVE_KINDS = {
    "size": "small big large tiny huge giant little tall short long miniature enormous massive "
    "gigantic mini medium-sized oversized fat thin slim chubby skinny",
    "age": "old young ancient new elderly adult newborn modern",
    "mood": "happy sad angry sleepy grumpy cheerful scared surprised calm serious lonely proud "
    "curious sleeping smiling laughing crying tired bored excited shy fierce friendly",
    "look": "cute fluffy furry shiny beautiful lovely pretty ugly handsome elegant majestic wild "
    "funny silly cozy fancy magical mysterious mystical wise brave noble lazy playful adorable "
    "realistic detailed simple minimalist abstract vintage antique rusty dusty dirty clean wet dry "
    "wooden metal metallic stone glass plastic paper ceramic porcelain round square flat striped "
    "spotted patterned transparent glowing strong weak fast slow soft hard smooth rough bright dark "
    "light pale colorful empty full open closed broken ripe fresh delicious tasty sweet warm cold "
    "strange weird crazy evil scary spooky famous rich poor single lone futuristic medieval tropical",
}
ADJECTIVES = {word: kind for kind, words in ADJECTIVE_KINDS.items() for word in words.split()}
ADJECTIVES |= dict.fromkeys(COLOURS, "color")

TIMES = {
    **dict.fromkeys(
        """night nighttime sunset sunrise dawn dusk noon midday midnight twilight""".split(),
        "at",
    ),
    **dict.fromkeys("winter summer spring autumn fall".split(), "in"),
    **dict.fromkeys(["morning", "evening", "afternoon"], "in the"),
    "day": "during the",
    "daytime": "in the",
    "christmas": "at",
    "halloween": "at",
}
WEATHER = {
    **dict.fromkeys("rain fog mist sun sunshine moonlight wind sunlight haze".split(), "in the"),
    **dict.fromkeys("storm thunderstorm blizzard snowstorm sandstorm drizzle".split(), "in a"),
}
SCENE_ADJECTIVES = {
    "snowy": "in the snow",
    "rainy": "in the rain",
    "foggy": "in the fog",
    "misty": "in the mist",
    "sunny": "in the sun",
    "stormy": "in a storm",
    "windy": "in the wind",
    "wintry": "in winter",
    "nocturnal": "at night",
    **dict.fromkeys("rain rains raining".split(), "in the rain"),
    **dict.fromkeys("snow snows snowing".split(), "in the snow"),
}
PLACES = {
    **dict.fromkeys(
        """beach island moon mountain mountaintop hill hilltop road street roof rooftop stage mars
    planet farm bridge cliff shore coast seashore riverbank balcony platform sidewalk runway
    iceberg cloud clouds volcano sand pier football-field""".split(),
        "on",
    ),
    **dict.fromkeys(
        """snow space meadow forest woods jungle desert city town village park garden field sea ocean
    lake river pond water room kitchen bathroom bedroom library cafe restaurant bar pub castle
    church cathedral cave school classroom office museum market grass sky valley canyon swamp
    countryside backyard yard alley tunnel temple stadium theater studio lab laboratory house
    home hotel hospital factory barn zoo wilderness landscape harbor shop store bakery station
    metropolis arctic antarctica orchard vineyard prairie savanna rainforest galaxy cosmos
    underwater universe nature dungeon palace bookstore subway train""".split(),
        "in",
    ),
    **dict.fromkeys("airport party concert wedding festival north-pole".split(), "at"),
}
BARE_PLACES = frozenset(
    """snow space water grass nature mars antarctica underwater sand home school clouds woods""".split()
)
# After "in" or "at" these are worn, sat in or held, never a setting.
NOT_PLACES = frozenset(
    """box basket cup mug bowl bag bottle jar bucket bathtub bath crate cage pot vase pocket nest
    bed sink chair armchair sofa couch hammock boat canoe car truck plane spaceship rocket
    balloon wheelchair carriage cart sleigh pose row circle line group pair hand hands arms lap
    mouth paw paws hair love flight motion action profile detail focus table desk piano keyboard
    computer easel bench window mirror counter laptop camera viewer color colors style way shape
    form tie suit tuxedo dress uniform armor costume pajamas shirt t-shirt sweater jacket coat
    robe kimono skirt jeans hoodie blanket spacesuit gown boots shoes outfit cloak""".split()
)
WORN = frozenset(
    """hat cap crown tiara glasses sunglasses scarf tie bowtie bow necklace helmet mask monocle
    ring earrings bracelet watch gloves mittens beanie beret headphones goggles collar cape wig
    mustache beard ribbon bandana eyepatch hood vest apron belt backpack""".split()
) | frozenset(
    """suit tuxedo dress uniform armor costume pajamas shirt t-shirt sweater jacket coat robe
    kimono skirt jeans hoodie spacesuit gown boots shoes outfit cloak""".split()
)
# "a castle in the background" is one thing with its whereabouts, not a change of background.
FRAME = BACKDROPS | frozenset(
    "foreground distance corner middle center sky air left right side top bottom hand hands".split()
)

BODY = frozenset(
    """head back shoulder shoulders nose neck face tail ear ears arm arms hand hands paw paws lap leg
    legs foot feet mouth beak side wing wings belly chest wrist""".split()
)
AIRBORNE = frozenset("snow snowflakes raindrops stars clouds fireworks lightning confetti".split())

STYLES = frozenset(
    """watercolor painting drawing sketch blueprint cartoon photograph photo render rendering
    charcoal anime manga comic mosaic claymation origami sculpture statue illustration engraving
    etching woodcut lithograph poster sticker logo icon emoji graffiti mural fresco collage
    doodle caricature embroidery tapestry silhouette portrait print polaroid snapshot gouache
    pastel acrylic linocut hologram diorama figurine screenprint aquarelle calligraphy cutout
    still daguerreotype infographic vector wireframe schematic impression postcard artwork
    linework""".split()
)
STYLE_PAIRS = frozenset(
    tuple(pair.split())
    for pair in """pixel art,neon sign,stained glass,line art,low poly,3d model,oil paint,digital art,
vector art,concept art,clip art,ascii art,street art,pop art,comic book,glass window,colored pencil,
art deco,art nouveau,film still,folk art,fan art,cave art,line work,folded paper,sand art,3d render,
comic strip,oil pastel,word art,storybook art,story book""".replace("\n", "").split(",")
)
MEDIA = frozenset(
    """oil oils ink pencil chalk crayon acrylics pastels clay felt lego monochrome sepia grayscale
    paper-craft papercraft black-and-white crosshatching hdr""".split()
)
STYLE_ADJECTIVES = frozenset(
    """impressionist expressionist cubist surrealist surreal minimalist photorealistic
    hyperrealistic realistic abstract cyberpunk steampunk vaporwave baroque gothic renaissance
    cartoonish retro vintage psychedelic pointillist isometric bauhaus noir futuristic painterly
    cinematic ghibli disney pixar romanticist medieval kawaii""".split()
)
COUNTLESS_STYLES = frozenset(
    """anime manga claymation origami graffiti charcoal calligraphy linework gouache acrylic""".split()
)
NEUTRAL = frozenset("""picture image photo depiction scene view shot close-up closeup""".split())
RENDERED = frozenset(
    """painted drawn rendered done illustrated made sketched depicted shown redrawn styled shot
    photographed carved sculpted etched""".split()
)

VERBS = frozenset(
    """sit stand lie sleep run walk jump fly swim dance sing play read write hold carry wear ride
    drive eat drink cook look watch stare gaze smile laugh cry wave climb chase catch throw kick
    float hover lean rest relax fight hug kiss sail surf ski skate juggle hide dig bark roar
    howl work build fix open point peek pull push sip chew bite meditate type talk study balance
    pose bake swing knit rest nap perch lick sniff pounce stretch crawl hop dive bathe sweep
    play paint draw hang explore travel march kneel bow yawn""".split()
)
ING_NOUNS = frozenset(
    """king ring wing thing string spring building painting drawing evening morning ceiling
    clothing lightning wedding being sling swing pudding earring railing duckling gosling
    dumpling viking sibling duckling sapling rendering crossing landing wrapping stocking
    herring starling sterling something anything nothing everything darling lettering engraving
    etching carving""".split()
)
ED_NOUNS = frozenset("breed speed steed seaweed tweed bobsled".split())
S_SINGULARS = frozenset(["lens", "series", "species"])
# What a body does as a whole: one excludes the other. What is done by hand goes with any but sleep.
POSTURES = frozenset(
    """sit stand lie sleep run walk jump fly swim dance kneel float hover climb lean rest hang crawl
    march hop dive nap perch stretch ride drive sail ski skate surf""".split()
)
ASLEEP = frozenset(["sleep", "nap"])
# The object of these is never somebody who could wear or hold what is named next.
LIFELESS = frozenset("""reading wearing writing playing eating drinking sipping baking""".split())
# These take the words after them as their object, even when those name a place.
GOVERNING = frozenset(
    """looking staring gazing peeking smiling pointing barking laughing waving covered dressed made
    looks stares gazes peeks smiles points barks laughs waves wrapped filled shaped howling
    talking surrounded""".split()
)
ADVERBS = frozenset(
    """together outside indoors outdoors alone upside again away there here very quite not""".split()
)

LY_NOUNS = frozenset("butterfly dragonfly firefly family lily belly jelly assembly italy".split())
