"""GLM-Image: a language model writes codes of what is to be seen, a diffusion transformer paints them.

Planning; no torch. For a text the model first writes a small picture of about 256 codes, then one
with a code for 32x32 pixels, of which alone the painter learns; beside pictures it writes the large
one at once. The painter is diffusers' `GlmImagePipeline`, which `diptych-autoregressive[glm]` brings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.cards import EditMode, ModelCard, Option, Paradigm, refused
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.image import Image
from diptych.plan import State
from diptych.request import Request
from diptych.sizes import Sizes

from .family import Draft, Family, Files, Model, Runtime, check_whole
from .knobs import Knobs, sampling

__all__ = ["FACTOR", "FAMILY", "WRITER", "Traits"]

REPOSITORY = "zai-org/GLM-Image"
WRITER = "vision_language_encoder"
"""The folder of the language model in a checkpoint."""

FACTOR = 32
"""Pixels of a code and side."""

STEPS, GUIDANCE = 50, 1.5
REFERENCES = 3
SAMPLING = {"temperature": 1.0, "top_k": 50.0, "top_p": 1.0}
"""What transformers' `generate`, which the published pipeline calls, does where nothing is said."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What planning needs to know of a checkpoint."""

    knobs: Knobs
    steps: int
    area: int

    @classmethod
    def of(cls, files: Files) -> Traits:
        defaults = files.sidecar.defaults
        said = written_with(files.folder) if files.folder else SAMPLING
        return cls(
            knobs=Knobs(
                guidance=float(defaults.get("guidance_scale", GUIDANCE)),
                temperature=said["temperature"],
                top_k=int(said["top_k"]),
                top_p=said["top_p"],
            ),
            steps=int(defaults.get("steps", STEPS)),
            area=int(defaults.get("image_area", 1024 * 1024)),
        )

    def size(self, payload: Mapping[str, Any]) -> tuple[int, int]:
        """Width and height to draw; a square where neither the caller nor a picture says so."""
        side = round(self.area**0.5 / FACTOR) * FACTOR
        width, height = payload.get("size", (side, side))
        return width, height


def written_with(folder: Path) -> dict[str, float]:
    """The sampling that the checkpoint asks for, in the folder of its language model."""
    path = folder / WRITER / "generation_config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        said = {name: float(value[name]) for name in SAMPLING if value.get(name) is not None}
    except FileNotFoundError:
        said = {}
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} holds no settings of sampling: {error}") from None
    return SAMPLING | said


class Glm:
    """The family object; see `Family`."""

    name = "GLM-Image"
    patterns: Sequence[str] = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")

    def repositories(self) -> Sequence[str]:
        return (REPOSITORY,)

    def recognises(self, files: Files) -> bool:
        if files.folder is None:
            return files.repository == REPOSITORY
        return files.index.get("_class_name") == "GlmImagePipeline"

    def card(self, files: Files) -> ModelCard:
        check_whole(files)
        traits = Traits.of(files)
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.HYBRID,
            edits=frozenset({EditMode.INSTRUCT}),
            options={
                "guidance": Option(low=1, high=100, default=traits.knobs.guidance),
                "steps": Option(low=1, high=1000, default=traits.steps),
                "seed": Option(),
                "references": Option(),
                "negative_prompt": refused(
                    "guidance steers away from an empty text; raise guidance instead"
                ),
                "previews": refused("its codes show nothing before they are painted"),
            },
            sizes=Sizes(
                kind="free",
                min_pixels=FACTOR * FACTOR,
                max_pixels=2048 * 2048,
                ratio=4,
                budget=traits.area,
            ),
            max_references=REFERENCES,
            max_n=64,
            streams=True,
            source="transformers 5.23, diffusers 0.42 and the repository's files, November 2026",
            note="guidance and steps are the painter's, temperature, top_k and top_p in extra the "
            "writer's; needs diptych-autoregressive[glm]",
        )

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        if any(each.weight is not None for each in request.references):
            raise UnsupportedOption(
                f"{card.ref} reads every reference in full and takes no weight", option="references"
            )
        pictures = [each.image for each in request.references]
        if request.image is not None:
            pictures.insert(0, request.image)
        payload: dict[str, Any] = {"prompt": request.prompt}
        size = request.geometry.size
        if size is None and request.image is not None:
            size = _size_of(request.image)
        if size is not None:
            payload["size"] = list(size)
        if request.steps is not None:
            payload["steps"] = request.steps
        if pictures:
            payload["pictures"] = pictures
        payload |= sampling(card.ref, request.guidance, request.extra)
        return Draft(payload, "token loop, then GlmImagePipeline")

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        from .glm_model import GlmModel

        return GlmModel.load(files, folder, runtime)


def _size_of(image: Image) -> tuple[int, int]:
    """An edit has the size of what it edits, within what the model draws."""
    if not image.is_fetched:
        raise InvalidInput(
            f"the plan needs the picture's size, and {image.url} was not downloaded; use "
            "Image.from_url(url).fetch(), or give size="
        )
    width, height = image.size
    if width * height > 2048 * 2048 or max(width, height) > 4 * min(width, height):
        raise InvalidInput(
            f"the picture is {width}x{height}, and GLM-Image draws up to 2048x2048 with sides up to "
            "4:1; give size="
        )
    return width, height


FAMILY: Family = Glm()
