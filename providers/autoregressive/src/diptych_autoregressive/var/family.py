"""VAR as a family: which files, what the card says, how a request becomes a plan. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.cards import EditMode, ModelCard, Option, Paradigm
from diptych.errors import UnknownModel
from diptych.notices import Notice
from diptych.plan import State
from diptych.request import Request
from diptych.sizes import Sizes

from ..family import Draft, Files, Model, Runtime
from ..labelled import Setting, asked_size, cells, described, label_of, own, scaled, settings

__all__ = ["FAMILY", "Layout", "defaults"]

REPOSITORY = "FoundationVision/var"
SOURCE = "FoundationVision/VAR and arXiv:2404.02905, read 2026-11-23"
TRANSFORMER = re.compile(r"var_d(\d+)\.(pth|safetensors)")
TOKENIZER = re.compile(r"vae[\w.-]*\.(pth|safetensors)")
PATCH = 16
"""Pixels of a side of the last scale's tokens."""

SETTINGS = {
    "top_k": Setting(900, 0, 1_000_000),
    "top_p": Setting(0.95, 0, 1),
    "more_smooth": Setting(False),
}
GUIDANCE = 4.0


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one VAR model, its class count and the side of its pictures in pixels."""

    transformer: str
    tokenizer: str
    classes: int
    size: int

    @classmethod
    def of(cls, files: Files) -> Layout:
        """Raises `UnknownModel` for a folder that lacks a part, or has several to choose from."""
        if files.checkpoint.source == "hub":
            transformer = files.weights or "var_d30.pth"
            tokenizer = "vae_ch160v4096z32.pth"
        else:
            transformer = _one(files, TRANSFORMER, "transformer (var_d16.pth)", files.weights)
            tokenizer = _one(files, TOKENIZER, "tokenizer (vae_ch160v4096z32.pth)", None)
        depth = TRANSFORMER.fullmatch(transformer)
        if depth is None:
            raise UnknownModel(
                f"{files.ref}: weights={transformer!r} is not a VAR transformer; it has var_d16.pth, "
                "var_d20.pth, var_d24.pth, var_d30.pth (256 pixels) and var_d36.pth (512 pixels)"
            )
        size = files.sidecar.size or (512 if int(depth[1]) == 36 else 256)
        return cls(transformer, tokenizer, int(files.sidecar.facts.get("classes", 1000)), size)


def _one(files: Files, pattern: re.Pattern[str], what: str, named: str | None) -> str:
    there = sorted(name for name in files.names if pattern.fullmatch(name))
    if named is not None:
        if named in files.names:
            return named
        raise UnknownModel(f"{files.ref} has no weights={named!r}; it has {', '.join(there)}")
    if len(there) == 1:
        return there[0]
    if not there:
        raise UnknownModel(f"{files.ref} has no {what}")
    raise UnknownModel(
        f"{files.ref} has {', '.join(there)}; say which with ImageClient(..., weights=...)"
    )


def defaults(files: Files) -> dict[str, Any]:
    """What is drawn with where the caller says nothing, under the names of the payload."""
    said = files.sidecar.defaults
    return {"guidance": float(said.get("guidance_scale", GUIDANCE)), **own(SETTINGS, said)}


class VARFamily:
    """The family object; see `Family`."""

    name = "VAR"
    patterns: Sequence[str] = ("vae_ch160v4096z32.pth", "*.json")

    def repositories(self) -> Sequence[str]:
        return (REPOSITORY,)

    def recognises(self, files: Files) -> bool:
        if files.checkpoint.source == "hub":
            return files.repository.lower() == REPOSITORY.lower()
        return any(map(TRANSFORMER.fullmatch, files.names))

    def card(self, files: Files) -> ModelCard:
        layout = Layout.of(files)
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.HYBRID,
            edits=frozenset({EditMode.INPAINT}),
            options={
                "seed": Option(),
                "guidance": Option(low=0, high=100, default=defaults(files)["guidance"]),
                "previews": Option(),
                "extra": described(SETTINGS, "label (a class name or number)"),
            },
            sizes=Sizes(kind="fixed", fixed=((layout.size, layout.size),)),
            max_n=64,
            streams=True,
            source=SOURCE,
            note=(
                "draws classes of ImageNet, no free text; inpaints by keeping the tokens outside the "
                f"mask; {layout.transformer}, others of the folder with weights="
            ),
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
        if request.image is not None and request.mask is not None:
            payload |= {"image": request.image, "tokens": cells(request.mask, layout.size // PATCH)}
            notices += scaled(request.image.size, layout.size)
        return Draft(payload | asked_size(request), "next-scale loop", notices)

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        from .draw import load

        return load(files, folder, Layout.of(files), runtime)


FAMILY = VARFamily()
