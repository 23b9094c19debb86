"""A card for what runs today."""

from diptych.cards import SUPPORTED, EditMode, ModelCard, Option, Paradigm
from diptych.local.checkpoints import Checkpoint
from diptych.sizes import Sizes


def cards() -> list[ModelCard]:
    return []


def card_of(checkpoint: Checkpoint) -> ModelCard:
    names = (
        "seed negative_prompt guidance steps previews change source_prompt n size aspect".split()
    )
    options = {name: SUPPORTED for name in names} | {"format": Option(choices=("png",))}
    return ModelCard(
        ref=f"diffusers/{checkpoint.name}",
        paradigm=Paradigm.DIFFUSION,
        edits=frozenset({EditMode.IMG2IMG, EditMode.INPAINT, EditMode.INVERT}),
        options=options,
        sizes=Sizes(kind="free", budget=128 * 128),
        max_n=64,
        streams=True,
    )
