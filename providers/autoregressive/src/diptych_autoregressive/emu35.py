"""Emu3.5: Emu3's idea at 34 billion parameters, trained to edit by instruction.

Its checkpoints are in no library: the language model is Llama-shaped with normalised queries and
keys, the tokenizer of pictures (IBQ, 16 pixels a code) comes in a repository of its own. A picture
that is edited stands in the user's turn, before the instruction, as the very tokens that drew it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from diptych.cards import EditMode, ModelCard, Option, Paradigm, refused
from diptych.errors import InvalidInput, UnknownModel, UnsupportedOption
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import State
from diptych.request import Request
from diptych.sizes import Sizes

from .family import Draft, Family, Files, Model, Runtime, check_whole
from .knobs import Knobs, sampling
from .sequence import Segment, mark

__all__ = ["FAMILY", "NO_RANKS", "PICTURES", "RANKS"]

REPOSITORIES = ("BAAI/Emu3.5-Image", "BAAI/Emu3.5")
PICTURES = "BAAI/Emu3.5-VisionTokenizer"
EMU3 = 184_622
"""Words of the first Emu3, whose own layout calls itself by the same model_type."""

FACTOR = 16
AREA = 1024 * 1024
MAX_REFERENCES = 3
GUIDANCE = (5.0, 3.0)
"""For drawing and for editing, as the authors set it for Emu3.5-Image."""
BOTH = (2.0, 2.0)
"""As they recommend it for Emu3.5, which writes as well."""
SIDES = (10, 99)
"""Codes of a side that the authors can ask for: they write both numbers with two digits."""
RANKS = "emu3.tiktoken"
NO_RANKS = (
    f"has no {RANKS}, without which words cannot be read; copy it from src/tokenizer_emu3_ibq of the "
    "authors' repository, github.com/baaivision/Emu3.5"
)


class Emu35:
    """The family object; see `Family`."""

    name = "Emu3.5"
    patterns: Sequence[str] = ("*.safetensors", "*.json", "*.tiktoken", "*.txt")

    def repositories(self) -> Sequence[str]:
        return REPOSITORIES

    def recognises(self, files: Files) -> bool:
        if files.folder is None:
            return files.repository in REPOSITORIES
        return files.config.get("model_type") == "Emu3"

    def card(self, files: Files) -> ModelCard:
        check_whole(files)
        if files.config.get("vocab_size") == EMU3:
            raise UnknownModel(
                f"{files.ref} is Emu3 in its authors' first layout; use the one of transformers: "
                "autoregressive/Emu3-community/Emu3-Gen-hf"
            )
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.AUTOREGRESSIVE,
            edits=frozenset({EditMode.CONTINUE, EditMode.INSTRUCT}),
            options={
                "guidance": Option(low=0, high=100, default=_guidance(files)[0]),
                "seed": Option(),
                "previews": Option(),
                "references": Option(),
                "negative_prompt": refused(
                    "guidance steers away from an empty text; raise guidance instead"
                ),
                "steps": refused(
                    "one pass makes one token, and the size decides how many there are"
                ),
            },
            sizes=Sizes(
                kind="free",
                min_pixels=FACTOR * FACTOR,
                max_pixels=2 * AREA,
                ratio=4,
                budget=AREA,
            ),
            max_references=MAX_REFERENCES,
            max_n=64,
            streams=True,
            source="github.com/baaivision/Emu3.5, November 2026",
            note=NO_RANKS
            if _lacks_ranks(files)
            else "34 billion parameters: 64 GiB as bfloat16, so a GPU with 80 GB or more",
        )

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        if _lacks_ranks(files):
            raise InvalidInput(f"{card.ref} {NO_RANKS}")
        notices: list[Notice] = []
        seen = [Image.of(each.image) for each in request.references]
        before: list[Segment] = []
        if request.image is not None:
            earlier: list[Segment] = list((state or {}).get("sequence", ()))
            if earlier and request.image.provenance.get("tokens") == mark(earlier):
                # The model learnt edits one at a time: the last picture is what it looks at.
                before.append({**earlier[-1], "text": ""})
            else:
                told = "the picture is not this conversation's own, so it is encoded to tokens"
                notices.append(Notice("translated", told, "image"))
                seen.insert(0, request.image)
        if any(each.weight is not None for each in request.references):
            raise UnsupportedOption(
                f"{card.ref} has no weights of references; leave weight out", option="references"
            )
        before += [{"text": "", "image": image} for image in seen]
        if len(before) > MAX_REFERENCES:
            raise UnsupportedOption(
                f"{card.ref} looks at {MAX_REFERENCES} pictures at most, the one to edit included, and "
                f"{len(before)} were given",
                option="references",
            )
        payload: dict[str, Any] = {"prompt": request.prompt}
        if request.geometry.size is not None:
            payload["size"] = list(request.geometry.size)
        if request.image is not None and request.image.is_fetched:
            payload["like"] = list(request.image.size)
        if before:
            payload["before"] = before
        drawn = Emu35Rules(*_guidance(files)).size(payload)
        columns, rows = (ceil(side / FACTOR) for side in drawn)
        if not SIDES[0] <= min(rows, columns) <= max(rows, columns) <= SIDES[1]:
            told = (
                f"the authors draw sides from {SIDES[0] * FACTOR} to {SIDES[1] * FACTOR} pixels, and "
                f"this is {columns * FACTOR}x{rows * FACTOR}"
            )
            notices.append(Notice("unverified", told, "size"))
        payload |= sampling(card.ref, request.guidance, request.extra)
        return Draft(payload, "token loop", tuple(notices))

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        from .emu35_model import load

        return load(files, folder, runtime, Emu35Rules(*_guidance(files)))


def _guidance(files: Files) -> tuple[float, float]:
    """By the name of the checkpoint, as its files do not tell."""
    name = files.repository or (files.folder.name if files.folder is not None else "")
    return BOTH if name.lower().endswith("emu3.5") else GUIDANCE


def _lacks_ranks(files: Files) -> bool:
    """Whether a folder has no words. What the Hub has is not known before it is here."""
    if files.folder is None or files.checkpoint.source == "hub":
        return False
    return not any(name.endswith(RANKS) for name in files.names)


@dataclass(frozen=True, slots=True)
class Emu35Rules:
    """The authors' settings: guidance of a text alone, and beside pictures; see `Rules`."""

    plain: float
    beside: float

    def knobs(self, payload: Mapping[str, Any]) -> Knobs:
        return Knobs(guidance=self.beside if payload.get("before") else self.plain, top_k=5120)

    def size(self, payload: Mapping[str, Any]) -> tuple[int, int]:
        if "size" in payload:
            width, height = payload["size"]
            return width, height
        return _scaled(payload.get("like", (1024, 1024)))

    def seen(self, image: Image, payload: Mapping[str, Any]) -> tuple[int, int]:
        return _scaled(image.size)


def _scaled(size: Sequence[int]) -> tuple[int, int]:
    """A size of the same shape, about a megapixel, in whole codes."""
    scale = (AREA / (size[0] * size[1])) ** 0.5
    width, height = (max(FACTOR, round(side * scale / FACTOR) * FACTOR) for side in size)
    return width, height


FAMILY: Family = Emu35()
