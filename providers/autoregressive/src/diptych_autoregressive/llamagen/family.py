"""LlamaGen as a family: which files, what the card says, how a request becomes a plan. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.cards import ModelCard, Option, Paradigm
from diptych.errors import InvalidInput, UnknownModel
from diptych.notices import Notice
from diptych.plan import State
from diptych.request import Request
from diptych.sizes import Sizes

from ..family import Draft, Files, Model, Runtime
from ..labelled import Setting, asked_size, described, label_of, own, settings
from .cleaning import cleaned

__all__ = ["FAMILY", "Layout", "defaults"]

CLASSES, TEXT = "FoundationVision/LlamaGen", "peizesun/llamagen_t2i"
DEFAULTS = {
    CLASSES.lower(): ("c2i_XL_384.pt", "vq_ds16_c2i.pt"),
    TEXT.lower(): ("t2i_XL_stage2_512.pt", "vq_ds16_t2i.pt"),
}
ENCODER = "google/flan-t5-xl"
SOURCE = "FoundationVision/LlamaGen and arXiv:2406.06525, read 2026-11-23"
TRANSFORMER = re.compile(r"(c2i|t2i)_[\w-]+?_(\d+)\.(pt|pth|safetensors)")
TOKENIZER = re.compile(r"vq_ds(8|16)_(c2i|t2i)\.(pt|pth|safetensors)")

SETTINGS = {
    "temperature": Setting(1.0, 0, 10),
    "top_k": Setting(0, 0, 1_000_000),
    "top_p": Setting(1.0, 0, 1),
    "cfg_interval": Setting(-1, -1, 1_000_000),
}
GUIDANCE = {"c2i": 4.0, "t2i": 7.5}
TOP_K = {"c2i": 2000, "t2i": 1000}


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a LlamaGen model, and what their names and the side-car say.

    `kind` is "c2i" or "t2i"; `encoder` is the folder of the text encoder, None for the one of the
    Hub; `side` counts tokens, `size` pixels.
    """

    kind: str
    transformer: str
    tokenizer: str
    encoder: str | None
    classes: int
    size: int
    side: int
    heads: int | None

    @classmethod
    def of(cls, files: Files) -> Layout:
        """Raises `UnknownModel` for a folder that lacks a part, or has several to choose from."""
        facts = files.sidecar.facts
        if files.checkpoint.source == "hub":
            usual, tokenizer = DEFAULTS[files.repository.lower()]
            transformer = files.weights or usual
        else:
            transformer = _transformer(files)
        found = TRANSFORMER.fullmatch(transformer)
        if found is None:
            raise UnknownModel(
                f"{files.ref}: weights={transformer!r} is not a LlamaGen transformer; those are named "
                "like c2i_XL_384.pt or t2i_XL_stage2_512.pt"
            )
        kind, size = found[1], files.sidecar.size or int(found[2])
        if files.checkpoint.source != "hub":
            tokenizer = _tokenizer(files, kind)
        factor = 8 if "_ds8_" in tokenizer else 16
        return cls(
            kind,
            transformer,
            tokenizer,
            _encoder(files),
            int(facts.get("classes", 1000)),
            size,
            size // factor,
            facts.get("heads"),
        )


def _transformer(files: Files) -> str:
    there = sorted(filter(TRANSFORMER.fullmatch, files.names))
    if files.weights is not None:
        if files.weights in files.names:
            return files.weights
        raise UnknownModel(
            f"{files.ref} has no weights={files.weights!r}; it has {', '.join(there)}"
        )
    if len(there) == 1:
        return there[0]
    raise UnknownModel(
        f"{files.ref} has {', '.join(there)}; say which with ImageClient(..., weights=...)"
    )


def _tokenizer(files: Files, kind: str) -> str:
    """The tokenizer of that kind; of two, the one with 16 pixels per token, as the authors use."""
    names = (name for name in files.names if (of := TOKENIZER.fullmatch(name)) and of[2] == kind)
    found = sorted(names)
    if not found:
        raise UnknownModel(f"{files.ref} has no vq_ds16_{kind}.pt, LlamaGen's tokenizer")
    return found[0]


def _encoder(files: Files) -> str | None:
    for name in sorted(files.names):
        path = PurePosixPath(name)
        if path.name == "config.json" and "t5" in path.parent.name.lower():
            return str(path.parent)
    return None


def defaults(files: Files, kind: str) -> dict[str, Any]:
    """What is drawn with where the caller says nothing, under the names of the payload."""
    said = {"top_k": TOP_K[kind], **files.sidecar.defaults}
    return {"guidance": float(said.get("guidance_scale", GUIDANCE[kind])), **own(SETTINGS, said)}


class LlamaGenFamily:
    """The family object; see `Family`."""

    name = "LlamaGen"
    patterns: Sequence[str] = ("vq_ds16_*.pt", "*.json")

    def repositories(self) -> Sequence[str]:
        return (CLASSES, TEXT)

    def recognises(self, files: Files) -> bool:
        if files.checkpoint.source == "hub":
            return files.repository.lower() in DEFAULTS
        return any(map(TRANSFORMER.fullmatch, files.names))

    def card(self, files: Files) -> ModelCard:
        layout = Layout.of(files)
        by_class = layout.kind == "c2i"
        words = "draws classes of ImageNet, no free text" if by_class else "draws from a text"
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.AUTOREGRESSIVE,
            options={
                "seed": Option(),
                "guidance": Option(
                    low=0, high=100, default=defaults(files, layout.kind)["guidance"]
                ),
                "previews": Option(),
                "extra": described(
                    SETTINGS | {"top_k": Setting(TOP_K[layout.kind])},
                    *(["label (a class name or number)"] if by_class else []),
                ),
            },
            sizes=Sizes(kind="fixed", fixed=((layout.size, layout.size),)),
            max_n=64,
            streams=True,
            source=SOURCE,
            note=f"{words}, and does not edit; {layout.transformer}, others of the folder with weights=",
        )

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        layout = Layout.of(files)
        guidance, also = request.guidance, ("label",) if layout.kind == "c2i" else ()
        payload: dict[str, Any] = settings(request.extra, SETTINGS, *also)
        if layout.kind == "c2i":
            payload["label"], notices = label_of(request, layout.classes, card.ref)
            if payload["label"] is None and guidance is not None:
                told = "there is nothing to guide to without a class, so guidance has no effect"
                notices += (Notice("translated", told, "guidance"),)
                guidance = None
        else:
            payload["prompt"], notices = _caption(request.prompt)
        if guidance is not None:
            payload["guidance"] = guidance
        return Draft(payload | asked_size(request), "token loop", notices)

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        from .draw import load

        return load(files, folder, Layout.of(files), runtime)


def _caption(prompt: str) -> tuple[str, tuple[Notice, ...]]:
    """The prompt as the text encoder gets it, and a notice where more than its case has changed."""
    text = cleaned(prompt)
    if not text:
        raise InvalidInput(f"prompt={prompt!r} has no words that the model reads")
    if text == " ".join(prompt.lower().split()).strip(" .,"):
        return text, ()
    return text, (Notice("translated", f"the prompt is read as {text!r}", "prompt"),)


FAMILY = LlamaGenFamily()
