"""Chameleon and Anole: recognised, so that `describe` can say why they cannot draw here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diptych.cards import ModelCard, Paradigm
from diptych.errors import UnsupportedOption
from diptych.plan import State
from diptych.request import Request

from .family import Draft, Family, Files, Model, Runtime

__all__ = ["FAMILY"]

WHY = (
    "cannot draw: transformers masks its picture tokens and ships no decoder for them, and its licence "
    "is for research alone; use Emu3 (autoregressive/Emu3-community/Emu3-Gen-hf), which draws from the "
    "same kind of joint vocabulary"
)


class Chameleon:
    """The family object; see `Family`."""

    name = "Chameleon"
    patterns: Sequence[str] = ()

    def repositories(self) -> Sequence[str]:
        return ()

    def recognises(self, files: Files) -> bool:
        known = files.repository.lower().startswith(("facebook/chameleon", "gair/anole"))
        return known or files.config.get("model_type") == "chameleon"

    def card(self, files: Files) -> ModelCard:
        return ModelCard(
            ref=files.ref,
            paradigm=Paradigm.AUTOREGRESSIVE,
            source="transformers 5.23 and the Chameleon Research License, November 2026",
            note=WHY,
        )

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        raise UnsupportedOption(f"{card.ref} {WHY}", option="model")

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        raise UnsupportedOption(f"{files.ref} {WHY}", option="model")


FAMILY: Family = Chameleon()
