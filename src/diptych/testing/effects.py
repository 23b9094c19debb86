"""Effects: whether what was set reached the model, and how one can tell from the plans."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..cards import EditMode
from ..errors import RequestError, UnsupportedOption
from ..image import Image
from ..plan import Plan, shown
from .cases import Case, Planned

__all__ = ["accepted", "accounted", "leaves", "sent", "without"]

_HONOURED = frozenset({"n", "mask", "references", "controls", "expand", "size"})
"""What changes the meaning of the picture: a notice alone does not account for it."""

_CORE = frozenset({"source_prompt", "format"})
"""Options that the core may account for by itself. Its other notices prove nothing: it writes
them before it knows what the provider makes of the option."""

_WORDS = {"adapters": "adapters?|loras?", "references": "references?", "controls": "controls?"}


def sent(plan: Plan) -> list[Any]:
    """What is sent: everything about the calls of a plan."""
    return [(each.operation, each.method, each.target, shown(each.payload)) for each in plan.calls]


def leaves(payload: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value in a payload that holds no other, with the keys that lead to it."""
    if isinstance(payload, Mapping):
        for name, each in payload.items():
            yield from leaves(each, (*path, str(name)))
    elif isinstance(payload, Sequence) and not isinstance(payload, str | bytes):
        for index, each in enumerate(payload):
            yield from leaves(each, (*path, str(index)))
    else:
        yield path, payload


def accepted(case: Case, options: Mapping[str, Any]) -> dict[str, Any]:
    """The largest part of `options` that can be planned; every refusal must name an option."""
    left = dict(options)
    while True:
        try:
            case.plan(**left)
        except RequestError as error:
            guilty = next((name for name in left if _blames(error, name)), None)
            assert guilty is not None, (
                f"{case}: planning with {_brief(left) if left else 'no option at all'} was refused "
                f"without naming one of the options: {type(error).__name__}: {error}\n"
                "Raise UnsupportedOption(..., option=name), or InvalidInput with the name in its text."
            )
            del left[guilty]
        else:
            return left


def without(case: Case, options: Mapping[str, Any], name: str) -> Planned | None:
    """The plan of `options` without `name`; None where another option needs it."""
    try:
        return case.planned(**{other: options[other] for other in options if other != name})
    except RequestError:
        return None


def accounted(case: Case, name: str, value: Any, whole: Planned, other: Planned) -> None:
    """Law 1: fails when option `name` makes no difference to the plan and nothing says why.

    `other` is the plan without it, or with another value.
    """
    here = name == "format" or (name == "mask" and case.mode is not EditMode.INPAINT)
    if sent(whole.plan) != sent(other.plan) or (here and whole.plan.finish != other.plan.finish):
        return
    noticed = any(each.option == name and each.kind != "unverified" for each in whole.own)
    noticed |= name in _CORE and any(each.option == name for each in whole.plan.notices)
    if noticed and name not in _HONOURED:
        return
    notice = (
        "a notice alone is not enough for this one"
        if name in _HONOURED
        else f'or return Plan(notices=(Notice("translated", "...", {name!r}),)) if it is honoured otherwise'
    )
    raise AssertionError(
        f"{case}: {name}={_brief(value)} is dropped in silence: the plan is the same without it, or "
        f"with another value.\nPut it into Call.payload ({notice}), or declare it in the card as "
        f"refused(...), or raise UnsupportedOption(..., option={name!r}) from plan()."
    )


def _blames(error: RequestError, name: str) -> bool:
    """Whether a refusal says that option `name` is the reason."""
    if isinstance(error, UnsupportedOption) and error.option.partition(".")[0] == name:
        return True
    return re.search(rf"\b({_WORDS.get(name, name)})\b", str(error), re.IGNORECASE) is not None


def _brief(value: Any) -> str:
    if isinstance(value, Image):
        return "<Image>"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
