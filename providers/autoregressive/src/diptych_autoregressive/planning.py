"""From a resolved request to one call, whatever the family. No torch."""

from __future__ import annotations

from diptych.cards import ModelCard
from diptych.cost import FREE
from diptych.notices import Notice
from diptych.plan import Call, Plan, State
from diptych.request import Request

from .families import family_of
from .family import Files

__all__ = ["plan_of"]


def plan_of(request: Request, card: ModelCard, files: Files, state: State | None) -> Plan:
    """The plan for a request that the core has checked against `card`."""
    draft = family_of(files).plan(request, card, files, state)
    task = "generate" if request.mode is None else str(request.mode)
    payload = dict(draft.payload)
    asked = {"n": request.n if request.n > 1 else None, "seed": request.seed}
    asked["previews"] = request.previews
    payload |= {name: value for name, value in asked.items() if value is not None}
    call = Call(
        operation=task,
        method=draft.method,
        target=card.ref,
        payload=payload,
        images=request.n,
        seeds=() if request.seed is None else tuple(request.seed + k for k in range(request.n)),
    )
    notices = (*draft.notices, *_unknown_words(request.prompt, card, files))
    return Plan(
        model=card.ref, mode=task, calls=(call,), request=request, notices=notices, estimate=FREE
    )


def _unknown_words(prompt: str, card: ModelCard, files: Files) -> tuple[Notice, ...]:
    words = files.sidecar.unknown_words(prompt)
    if not words:
        return ()
    named = ", ".join(repr(word) for word in words)
    noun = "the word" if len(words) == 1 else "the words"
    return (Notice("unverified", f"{card.ref} does not know {noun} {named}", "prompt"),)
