"""Emu3: one vocabulary of words and picture codes, so that a picture is a continuation of a text.

Sequence (transformers' `Emu3Processor`): begin, text, image start, "rows*columns", image token, then
for each row its codes and a line end, then the closing tokens. A model that was trained on several
pictures in one sequence edits by going on with it; Emu3-Gen was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from diptych.cards import EditMode, ModelCard, Option, Paradigm, refused
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import State
from diptych.request import Request
from diptych.rewrite import description
from diptych.sizes import Sizes

from .family import Draft, Family, Files, Model, Runtime, check_whole
from .knobs import Knobs, sampling
from .sequence import Segment, mark

__all__ = ["FAMILY"]

SUFFIX = " masterpiece, film grained, best quality."
NEGATIVE = (
    "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, "
    "worst quality, low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry."
)
GEN = ("Emu3-community/Emu3-Gen-hf", "BAAI/Emu3-Gen-hf")
READ = "transformers 5.23 and the repository's files, November 2026"


@dataclass(frozen=True, slots=True)
class Traits:
    """What planning needs to know of an Emu3 checkpoint.

    `side` is the only side that it draws, None for any; `factor` is pixels per code and side, `area`
    the pixels that are drawn when nothing is asked, `context` tokens fit in a sequence, and
    `trained` pictures were in those that it learnt from.
    """

    own: Knobs
    side: int | None
    factor: int
    area: int
    context: int
    trained: int
    is_gen: bool

    @classmethod
    def of(cls, files: Files) -> Traits:
        own, text = files.sidecar, files.config.get("text_config", {})
        factor = 2 ** (len(files.config.get("vq_config", {}).get("channel_multiplier", "4444")) - 1)
        is_gen = not own.facts
        context = int(text.get("max_position_embeddings", 9216))
        # A quarter of a short context is left to the text; Emu3's own leaves it a thousand tokens.
        fits = (context - min(context // 4, 1000)) * factor**2
        defaults = own.defaults
        return cls(
            own=Knobs(
                guidance=float(defaults.get("guidance_scale", 3.0)),
                temperature=float(defaults.get("temperature", 1.0)),
                top_k=int(defaults.get("top_k", 2048)),
                top_p=float(defaults.get("top_p", 1.0)),
            ),
            side=own.size,
            factor=factor,
            area=min(int(defaults.get("image_area", 720 * 720)), fits),
            context=context,
            trained=int(own.facts.get("trained_images", 1)),
            is_gen=is_gen,
        )

    # The `Rules` of a loaded model.

    def knobs(self, payload: Mapping[str, Any]) -> Knobs:
        return self.own

    def size(self, payload: Mapping[str, Any]) -> tuple[int, int]:
        if "size" in payload:
            width, height = payload["size"]
            return width, height
        side = self.side or round(self.area**0.5 / self.factor) * self.factor
        return side, side

    def seen(self, image: Image, payload: Mapping[str, Any]) -> tuple[int, int]:
        return self.size(payload)


class Emu3:
    """The family object; see `Family`."""

    name = "emu3"
    patterns: Sequence[str] = ("*.safetensors", "*.json", "*.txt", "*.model")

    def repositories(self) -> Sequence[str]:
        return GEN

    def recognises(self, files: Files) -> bool:
        if files.folder is None:
            return files.repository in GEN
        return files.config.get("model_type") == "emu3"

    def card(self, files: Files) -> ModelCard:
        check_whole(files)
        traits = Traits.of(files)
        edits = (EditMode.CONTINUE, EditMode.INSTRUCT) if traits.trained > 1 else ()
        options = {
            "guidance": Option(low=0, high=100, default=traits.own.guidance),
            "seed": Option(),
            "previews": Option(),
            "negative_prompt": Option(default=NEGATIVE if traits.is_gen else None),
            "steps": refused("one pass makes one token, and the size decides how many there are"),
        }
        if edits:
            options["source_prompt"] = Option()
        note = "" if edits else _CANNOT
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.AUTOREGRESSIVE,
            edits=frozenset(edits),
            options=options,
            sizes=_sizes(traits),
            max_n=64,
            streams=True,
            source="the checkpoint's side-car" if files.sidecar.facts else READ,
            note=note,
        )

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        traits = Traits.of(files)
        notices: list[Notice] = []
        payload: dict[str, Any] = {"prompt": request.prompt}
        if request.geometry.size is not None:
            payload["size"] = list(request.geometry.size)
        extra = dict(request.extra)
        if request.image is not None:
            payload["before"], noticed = _before(request, traits, state)
            notices += noticed
            if request.image.is_fetched:
                payload["like"] = list(request.image.size)
        suffix = extra.pop("suffix", SUFFIX if traits.is_gen else None)
        if suffix is not None and not isinstance(suffix, str):
            raise InvalidInput(f"suffix={suffix!r} must be a text")
        if suffix:
            payload["prompt"] += suffix
            if "suffix" not in request.extra:
                told = f'{suffix.strip()!r} is added, as the authors do; extra={{"suffix": ""}} leaves it out'
                notices.append(Notice("assumed", told, "prompt"))
        payload |= sampling(card.ref, request.guidance, extra)
        guidance = payload.get("guidance", traits.own.guidance)
        negative = request.negative_prompt
        if negative is None and traits.is_gen and guidance != 1:
            negative = NEGATIVE
            told = "the authors' negative prompt is used, none was given"
            notices.append(Notice("assumed", told, "negative_prompt"))
        if request.negative_prompt is not None and guidance == 1:
            raise UnsupportedOption(
                "negative_prompt acts through guidance, and guidance=1 switches it off; give guidance "
                "above 1",
                option="negative_prompt",
            )
        if negative is not None:
            payload["negative_prompt"] = negative
        width, height = traits.size(payload)
        rows, columns = (ceil(side / traits.factor) for side in (height, width))
        tokens = rows * (columns + 1)
        pictures = len(payload.get("before", ())) + 1
        if tokens * pictures + 3 > traits.context:
            raise InvalidInput(
                f"{width}x{height} is {tokens:,} tokens, and {card.ref} reads {traits.context:,}; ask for "
                "a smaller size"
            )
        return Draft(payload, "token loop", tuple(notices))

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        from .emu3_model import load

        traits = Traits.of(files)
        return load(files, folder, runtime, traits, is_conversational=traits.trained > 1)


_CANNOT = "draws from text only: it was not trained to edit pictures; autoregressive/pocket and Emu3.5 were"

FAMILY: Family = Emu3()


def _sizes(traits: Traits) -> Sizes:
    if traits.side is not None:
        return Sizes(kind="fixed", fixed=((traits.side, traits.side),), budget=traits.area)
    fits = (traits.context - min(traits.context // 4, 1000)) * traits.factor**2
    return Sizes(
        kind="free", min_pixels=traits.factor**2, max_pixels=fits, ratio=4, budget=traits.area
    )


def _before(
    request: Request, traits: Traits, state: State | None
) -> tuple[list[Segment], list[Notice]]:
    """What the sequence holds before the new text: earlier turns, or the picture alone."""
    image = request.image
    assert image is not None
    words = None if request.source_prompt is None else description(request.source_prompt)
    earlier: list[Segment] = list((state or {}).get("sequence", ()))
    notices: list[Notice] = []
    if earlier and image.provenance.get("tokens") == mark(earlier):
        if len(earlier) < traits.trained:
            return earlier, notices
        told = (
            f"the model learnt from {traits.trained} pictures in a row, so a new sequence begins "
            "with the last one"
        )
        before: list[Segment] = [{**earlier[-1], "text": words or ""}]
    else:
        told = "the picture is not this conversation's own, so it is encoded to tokens"
        before = [{"text": words or "", "image": image}]
    notices.append(Notice("translated", told, "image"))
    if words is None:
        told = "nothing says what the picture shows, which makes the subject drift; give source_prompt="
        notices.append(Notice("assumed", told, "source_prompt"))
    else:
        notices.append(Notice("translated", f"the picture is captioned {words!r}", "source_prompt"))
    return before, notices
