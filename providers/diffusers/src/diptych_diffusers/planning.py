"""From a resolved request to a call: what will be run, under the names of `Job`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from diptych.cards import ModelCard
from diptych.cost import Estimate
from diptych.errors import InvalidInput
from diptych.image import Image
from diptych.local.checkpoints import Checkpoint, Sidecar, sidecar
from diptych.notices import Notice
from diptych.plan import Call, Plan
from diptych.request import Request

from .families import facts, family_of

__all__ = ["plan_of"]

FREE = Estimate(Decimal(0), Decimal(0), source="runs on this machine")

_PLAIN = (
    "negative_prompt",
    "guidance",
    "steps",
    "change",
    "source_prompt",
    "previews",
)


def plan_of(request: Request, card: ModelCard, checkpoint: Checkpoint) -> Plan:
    """The plan for a request that the core has checked against `card`.

    The payload holds what the caller asked for and nothing else: defaults are the checkpoint's.
    """
    task = "generate" if request.mode is None else str(request.mode)
    own = sidecar(checkpoint.folder) if checkpoint.folder is not None else Sidecar()
    call = Call(
        operation=task,
        method=_loop(checkpoint),
        target=card.ref,
        payload=payload(request),
        images=request.n,
        seeds=() if request.seed is None else tuple(request.seed + k for k in range(request.n)),
    )
    return Plan(
        model=card.ref,
        mode=task,
        calls=(call,),
        request=request,
        notices=_unknown_words(request, card, own),
        estimate=FREE,
    )


def _loop(checkpoint: Checkpoint) -> str:
    """What runs: the loop of ours, or the stock pipeline."""
    family = family_of(facts(checkpoint.folder))
    return f"{family.native} loop" if family.native else "stock pipeline"


def payload(request: Request) -> dict[str, Any]:
    """What was asked for, as JSON values and pictures."""
    values: dict[str, Any] = {"prompt": request.prompt}
    values |= {
        name: getattr(request, name) for name in _PLAIN if getattr(request, name) is not None
    }
    if request.n > 1:
        values["n"] = request.n
    if request.seed is not None:
        values["seed"] = request.seed
    if request.geometry.size is not None:
        values["size"] = list(request.geometry.size)
    if request.image is not None:
        values["image"] = request.image
    if request.mask is not None:
        values["mask"] = Image.of(request.mask.png())
    if request.is_global is not None:
        values["whole"] = request.is_global
    if request.adapters:
        values["adapters"] = [asdict(each) for each in request.adapters]
    if request.controls:
        values["controls"] = [_fields(each) for each in request.controls]
    if request.references:
        values["references"] = [_fields(each) for each in request.references]
    if request.extra:
        values["extra"] = dict(request.extra)
    return values


def _fields(value: Any) -> Mapping[str, Any]:
    return {
        name: getattr(value, name) for name in value.__slots__ if getattr(value, name) is not None
    }


def _unknown_words(request: Request, card: ModelCard, sidecar: Sidecar) -> tuple[Notice, ...]:
    words = sidecar.unknown_words(request.prompt)
    if not words:
        return ()
    named = ", ".join(repr(word) for word in words)
    noun = "the word" if len(words) == 1 else "the words"
    return (Notice("unverified", f"{card.ref} does not know {noun} {named}", "prompt"),)
