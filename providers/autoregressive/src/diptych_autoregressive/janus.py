"""Janus-Pro: a language model with a vocabulary, a head and vectors of its own for picture codes.

It draws from text only. It can look at pictures and it can draw, but not both in one sequence:
transformers accepts pixels in image mode and ignores them, so this engine refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.cards import ModelCard, Option, Paradigm, refused
from diptych.errors import UnknownModel
from diptych.plan import State
from diptych.request import Request
from diptych.sizes import Sizes

from .family import Draft, Family, Files, Model, Runtime, check_whole
from .knobs import Knobs, sampling

__all__ = ["FAMILY", "OWN"]

REPOSITORIES = (
    "deepseek-community/Janus-Pro-1B",
    "deepseek-community/Janus-Pro-7B",
    "deepseek-ai/Janus-Pro-1B",
    "deepseek-ai/Janus-Pro-7B",
)
OWN = Knobs(guidance=5.0)
SIDE = 384


class Janus:
    """The family object; see `Family`. `multi_modality` is DeepSeek's own layout of the same model."""

    name = "Janus"
    patterns: Sequence[str] = ("*.safetensors", "*.bin", "*.json", "*.jinja")

    def repositories(self) -> Sequence[str]:
        return REPOSITORIES

    def recognises(self, files: Files) -> bool:
        if files.folder is None:
            return files.repository in REPOSITORIES
        return files.config.get("model_type") in ("janus", "multi_modality")

    def card(self, files: Files) -> ModelCard:
        check_whole(files)
        side = _side(files)
        draws = "it draws from text and cannot see pictures while it draws"
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.AUTOREGRESSIVE,
            options={
                "guidance": Option(low=0, high=100, default=OWN.guidance),
                "seed": Option(),
                "previews": Option(),
                "negative_prompt": refused(
                    "guidance steers away from an empty text; raise guidance instead"
                ),
                "steps": refused("one pass makes one token, and there are as many as codes"),
                "references": refused(draws),
            },
            sizes=Sizes(kind="fixed", fixed=((side, side),), budget=side * side),
            max_n=64,
            streams=True,
            source="transformers 5.23 and the repository's files, November 2026",
            note=f"{draws}, so it edits nothing and carries on no conversation; for that there are "
            "autoregressive/pocket and Emu3.5",
        )

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        payload: dict[str, Any] = {"prompt": request.prompt}
        if request.geometry.size is not None:
            payload["size"] = list(request.geometry.size)
        payload |= sampling(card.ref, request.guidance, request.extra)
        return Draft(payload, "token loop")

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        from .janus_model import JanusModel

        return JanusModel.load(files, folder, runtime)


def _side(files: Files) -> int:
    """Pixels per side; there is one size, as the picture has a fixed number of tokens."""
    vision = files.config.get("vision_config") or {}
    side = vision.get("image_size") or vision.get("params", {}).get("image_size", SIDE)
    if not isinstance(side, int):
        raise UnknownModel(f"{files.ref}: image_size={side!r} must be one number of pixels")
    return side


FAMILY: Family = Janus()
