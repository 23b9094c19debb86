"""MAR as a family: which files, what the card says, how a request becomes a plan. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.cards import EditMode, ModelCard, Option, Paradigm
from diptych.errors import InvalidInput, UnknownModel
from diptych.notices import Notice
from diptych.plan import State
from diptych.request import Request
from diptych.sizes import Sizes

from ..family import Draft, Files, Model, Runtime
from ..labelled import Setting, asked_size, cells, described, label_of, own, scaled, settings

__all__ = ["FAMILY", "Layout", "defaults"]

SOURCE = "LTH14/mar and arXiv:2406.11838, read 2026-11-23"
TRANSFORMER = re.compile(r"(checkpoint-last|mar[\w.-]*)\.(pth|pt|safetensors)")
AUTOENCODER = re.compile(r"kl16\.(ckpt|pth|safetensors)")
PATCH = 16
"""Pixels of a side of a token."""

SETTINGS = {
    "schedule": Setting("constant", choices=("constant", "linear")),
    "temperature": Setting(1.0, 0, 10),
    "diffusion_steps": Setting(100, 2, 1000),
}
GUIDANCE, PASSES = 4.0, 64


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a MAR model, its class count, the side of its pictures, its attention heads."""

    transformer: str
    autoencoder: str
    classes: int
    size: int
    heads: int | None

    @classmethod
    def of(cls, files: Files) -> Layout:
        """Raises `UnknownModel` for a folder that lacks a part, or has several to choose from."""
        facts = files.sidecar.facts
        autoencoder = sorted(filter(AUTOENCODER.fullmatch, files.names))
        if not autoencoder:
            raise UnknownModel(f"{files.ref} has no kl16.ckpt, MAR's autoencoder")
        there = sorted(filter(TRANSFORMER.fullmatch, files.names))
        named = files.weights or (there[0] if len(there) == 1 else None)
        if named is None:
            raise UnknownModel(
                f"{files.ref} has {', '.join(there)}; say which with ImageClient(..., weights=...)"
            )
        if named not in files.names:
            raise UnknownModel(f"{files.ref} has no weights={named!r}; it has {', '.join(there)}")
        return cls(
            named,
            autoencoder[0],
            int(facts.get("classes", 1000)),
            files.sidecar.size or 256,
            facts.get("heads"),
        )


def defaults(files: Files) -> dict[str, Any]:
    """What is drawn with where the caller says nothing, under the names of the payload."""
    said = files.sidecar.defaults
    return {
        "guidance": float(said.get("guidance_scale", GUIDANCE)),
        "passes": int(said.get("passes", PASSES)),
        **own(SETTINGS, said),
    }


class MARFamily:
    """The family object; see `Family`."""

    name = "MAR"
    patterns: Sequence[str] = ("*.json", "*.pth", "*.ckpt", "*.safetensors")

    def repositories(self) -> Sequence[str]:
        return ()  # the authors publish archives elsewhere

    def recognises(self, files: Files) -> bool:
        return any(map(TRANSFORMER.fullmatch, files.names)) and any(
            map(AUTOENCODER.fullmatch, files.names)
        )

    def card(self, files: Files) -> ModelCard:
        layout, drawn = Layout.of(files), defaults(files)
        tokens = (layout.size // PATCH) ** 2
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.HYBRID,
            edits=frozenset({EditMode.INPAINT}),
            options={
                "seed": Option(),
                "guidance": Option(low=1, high=100, default=drawn["guidance"]),
                "steps": Option(
                    "translated",
                    low=1,
                    high=tokens,
                    default=min(drawn["passes"], tokens),
                    note="steps are passes, each of which predicts some tokens",
                ),
                "previews": Option(),
                "extra": described(SETTINGS, "label (a class name or number)"),
            },
            sizes=Sizes(kind="fixed", fixed=((layout.size, layout.size),)),
            max_n=64,
            streams=True,
            source=SOURCE,
            note="draws classes of ImageNet, no free text; inpaints by predicting the masked tokens",
        )

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        layout = Layout.of(files)
        label, notices = label_of(request, layout.classes, card.ref)
        payload = {"label": label, **settings(request.extra, SETTINGS, "label")}
        if request.guidance is not None and label is None:
            told = "there is nothing to guide to without a class, so guidance has no effect"
            notices += (Notice("translated", told, "guidance"),)
        elif request.guidance is not None:
            payload["guidance"] = request.guidance
        side = layout.size // PATCH
        made = side * side
        if request.image is not None and request.mask is not None:
            payload |= {"image": request.image, "tokens": cells(request.mask, side)}
            notices += scaled(request.image.size, layout.size)
            made = sum(row.count("#") for row in payload["tokens"])
        if request.steps is not None:
            if request.steps > made:
                raise InvalidInput(
                    f"steps={request.steps}: the mask covers {made} tokens, and every pass predicts at "
                    f"least one; give steps of at most {made}"
                )
            payload["passes"] = request.steps
        return Draft(payload | asked_size(request), "masked loop", notices)

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        from .draw import load

        return load(files, folder, Layout.of(files), runtime)


FAMILY = MARFamily()
