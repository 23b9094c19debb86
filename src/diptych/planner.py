"""From a checked request to a plan: which edit mode, which words, which size, which notices.

Pure functions of (card, request, history); nothing here touches a network or spends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from .cards import EditMode, ModelCard
from .composite import pad
from .errors import InvalidInput, RetiredModel, UnsupportedOption
from .image import Image
from .notices import Notice
from .plan import Finish, Plan, State
from .provider import Provider
from .request import Request
from .rewrite import description, reading, rewrite
from .sizes import fit, shape

__all__ = ["DEFAULT_CHANGE", "History", "Rewriter", "make_plan"]

Rewriter = Callable[[str, str], str]
"""Given an instruction and the prompt that made the picture, the new description."""

DEFAULT_CHANGE = 0.6
"""The `change` of an image-to-image edit for which the caller gave none: recognisable, not frozen."""

SOON = 60
"""Days before a shutdown from which a model's plans carry a notice."""

_DESCRIBED = frozenset(
    {EditMode.IMG2IMG, EditMode.INPAINT, EditMode.OUTPAINT, EditMode.INVERT, EditMode.CONTROL}
)
_BESIDE = frozenset({EditMode.CONTINUE, EditMode.INSTRUCT})
_CONVERTIBLE = ("png", "jpeg", "webp")
_LOSSLESS = ("png", "webp")


@dataclass(frozen=True, slots=True)
class History:
    """What a conversation knows of its picture.

    `prompt` is the description of it, when there is one. `state` is the provider's own, None when
    this model did not make the picture or the conversation did not begin with it.
    """

    image: Image | None = None
    prompt: str | None = None
    state: State | None = None


def make_plan(
    provider: Provider,
    card: ModelCard,
    request: Request,
    *,
    history: History | None = None,
    rewriter: Rewriter | None = None,
    today: date | None = None,
) -> Plan:
    """The plan for `request` on the model of `card`.

    Raises `RetiredModel`, `UnsupportedOption` and `InvalidInput`.
    """
    notices = list(lifecycle(card, today or date.today()))
    mode, why = choose(card, request, history)
    in_force = provider.card_for(card, mode)
    if in_force.ref != card.ref:
        notices += lifecycle(in_force, today or date.today())
        notices.append(Notice("translated", f"{card.ref} edits through {in_force.ref}", "model"))
    request, wording, noticed = phrase(in_force, request.but(mode=mode), history, rewriter)
    notices += noticed
    request, finish, noticed = prepare(in_force, request)
    notices += noticed
    notices += check(in_force, request)
    geometry, noticed = fit(shape(request.size, request.aspect), in_force.sizes, in_force.ref)
    notices += noticed
    state = None if history is None else history.state
    plan = provider.plan(request.but(geometry=geometry), in_force, state)
    return plan.but(
        why="; ".join(filter(None, (why, wording))),
        notices=(*notices, *plan.notices),
        finish=finish,
    )


def lifecycle(card: ModelCard, today: date) -> tuple[Notice, ...]:
    """Raises `RetiredModel` for a model that was shut down; notices one that soon will be."""
    end, successor = card.lifecycle.shutdown, card.lifecycle.successor
    if end is None:
        return ()
    instead = f"; use {successor}" if successor else ""
    if end <= today:
        raise RetiredModel(
            f"{card.ref} was shut down on {end}{instead}", shutdown=end, successor=successor
        )
    if (end - today).days <= SOON:
        return (Notice("lifecycle", f"{card.ref} will be shut down on {end}{instead}", "model"),)
    return ()


def choose(
    card: ModelCard, request: Request, history: History | None
) -> tuple[EditMode | None, str]:
    """The edit mode and why: the first row of the decision table that fits.

    None is text to image. Raises `UnsupportedOption` when no row fits.
    """
    ref, edits = card.ref, card.edits
    if request.image is None:
        return _from_text(card, request)
    if request.mask is not None and request.expand is not None:
        raise InvalidInput("mask and expand exclude each other: expand makes its own mask")
    if request.mode is not None:
        if request.mode not in edits:
            raise UnsupportedOption(f"{ref} cannot {request.mode}; {_has(card)}", option="mode")
        if request.mode is EditMode.CONTINUE and request.expand is not None:
            raise UnsupportedOption(
                f"{ref} goes on from its own picture, which has no new border; leave mode out, or expand",
                option="expand",
            )
        return request.mode, "the caller named the mode"
    if request.mask is not None:
        return _first(card, "mask", "a mask was given", _MASKED)
    if request.expand is not None:
        return _first(card, "expand", "expand was given", _EXPANDED)
    if EditMode.CONTINUE in edits and history is not None and history.state:
        return EditMode.CONTINUE, "the model carries on its own conversation"
    if EditMode.INSTRUCT in edits:
        return EditMode.INSTRUCT, "the model takes instructions beside a picture"
    if request.change is not None and EditMode.IMG2IMG in edits:
        return EditMode.IMG2IMG, "change was given"
    if EditMode.INVERT in edits and _source(request, history) is not None:
        return EditMode.INVERT, "the prompt that made the picture is known"
    return _first(card, "image", "the model knows no instructions", (EditMode.IMG2IMG,))


_MASKED = (EditMode.INPAINT, EditMode.INSTRUCT, EditMode.IMG2IMG)
_EXPANDED = (EditMode.OUTPAINT, EditMode.INPAINT)


def _from_text(card: ModelCard, request: Request) -> tuple[None, str]:
    if card.needs_control and not request.controls:
        raise UnsupportedOption(
            f"{card.ref} needs a control image; give controls=[Control(kind, image)]",
            option="controls",
        )
    if not (card.generates or card.needs_control):
        raise UnsupportedOption(
            f"{card.ref} needs a picture to work on; use edit(image, prompt)", option="image"
        )
    if request.mode is not None:
        raise InvalidInput(
            f"mode={str(request.mode)!r} needs a picture; use edit(image, prompt, mode=...)"
        )
    return None, "no picture to edit"


def _first(
    card: ModelCard, option: str, why: str, modes: tuple[EditMode, ...]
) -> tuple[EditMode, str]:
    """The first of `modes` that the model has."""
    for mode in modes:
        if mode in card.edits:
            return mode, why
    raise UnsupportedOption(f"{card.ref} cannot edit with {option}; {_has(card)}", option=option)


def _has(card: ModelCard) -> str:
    return f"it has {', '.join(sorted(card.edits))}" if card.edits else "it has no edit modes"


def _source(request: Request, history: History | None) -> str | None:
    return request.source_prompt or (history.prompt if history is not None else None)


def phrase(
    card: ModelCard, request: Request, history: History | None, rewriter: Rewriter | None
) -> tuple[Request, str, tuple[Notice, ...]]:
    """Turn an instruction into a description where the mode needs one.

    Returns the request with the words to send, how the prompt was read, and notices.
    """
    source, asked = _source(request, history), request.source_prompt
    # A card that names the option has a model that reads, beside a picture, what it shows.
    reads = request.mode in _BESIDE and "source_prompt" in card.options
    takes = request.mode is EditMode.INVERT or reads
    if not takes:
        request = request.but(source_prompt=None)
    elif source is not None:
        request = request.but(source_prompt=description(source))
    unused = (
        ()
        if asked is None or takes
        else (
            Notice("translated", "source_prompt was not needed and is not sent", "source_prompt"),
        )
    )
    if request.mode not in _DESCRIBED or EditMode.INSTRUCT in card.edits:
        return request, "", unused
    if reading(request.prompt) == "description":
        return request, "the prompt was read as a description", unused
    if source is None:
        raise InvalidInput(
            f"{card.ref} needs a description of the whole picture, and {request.prompt!r} reads as an "
            "instruction; write the description, or give source_prompt= (what the picture shows now) "
            "so that the instruction can be applied to it"
        )
    words, is_global = _rewritten(request.prompt, description(source), rewriter)
    notice = Notice("translated", f"the instruction was rewritten to {words!r}", "prompt")
    request = request.but(prompt=words, is_global=is_global)
    return request, "the prompt was read as an instruction", (notice,)


def _rewritten(instruction: str, source: str, rewriter: Rewriter | None) -> tuple[str, bool | None]:
    """The new description, and whether the edit concerns the whole picture, if that is known."""
    try:
        edit = rewrite(instruction, source)
    except InvalidInput:
        if rewriter is None:
            raise
        return rewriter(instruction, source), None
    return edit.prompt, edit.is_global


def prepare(card: ModelCard, request: Request) -> tuple[Request, Finish, tuple[Notice, ...]]:
    """Split the request into what the provider does and what is done here afterwards."""
    notices: list[Notice] = []
    finish, border = Finish(), None
    if request.expand is not None and request.mode is not EditMode.OUTPAINT:
        request, border = _padded(request), request.expand
        notices.append(
            Notice("translated", "the picture is padded and the new border is inpainted", "expand")
        )
    if request.mask is not None:
        request, finish, noticed = _protected(card, request)
        finish = finish.but(expand=border)
        notices += noticed
    elif request.preserve == "model" and not _finds_place(request):
        told = "preserve has no effect here: nothing of the original would be put back"
        notices.append(Notice("translated", told, "preserve"))
    takes_change = card.option("change").support != "refused"
    if request.mode is EditMode.IMG2IMG and request.change is None and takes_change:
        request = request.but(change=DEFAULT_CHANGE)
        notices.append(
            Notice("assumed", f"change={DEFAULT_CHANGE} is used, none was given", "change")
        )
    if request.format is not None:
        taken = card.option("format")
        if taken.support == "refused" or (taken.choices and request.format not in taken.choices):
            if request.format not in _CONVERTIBLE:
                made = ", ".join(taken.choices) or "its own format"
                raise UnsupportedOption(
                    f"{card.ref} cannot make {request.format}; it makes {made}", option="format"
                )
            notices.append(
                Notice("translated", f"the picture is converted to {request.format} here", "format")
            )
            finish = finish.but(convert=request.format)
            request = request.but(format=None)
    return request, finish, tuple(notices)


def _finds_place(request: Request) -> bool:
    """Whether the provider may find by itself where an edit takes place, and protect the rest."""
    return request.mode is EditMode.INVERT and not request.is_global


def _padded(request: Request) -> Request:
    assert request.image is not None
    assert request.expand is not None
    _loaded(request.image, "expand")
    grow = request.expand
    canvas, mask = pad(request.image, grow.left, grow.top, grow.right, grow.bottom)
    return request.but(image=canvas, mask=mask, expand=None)


def _protected(card: ModelCard, request: Request) -> tuple[Request, Finish, tuple[Notice, ...]]:
    """Check the mask against the picture; take it off the request where the mode takes none."""
    assert request.image is not None
    assert request.mask is not None
    _loaded(request.image, "mask")
    request.mask.check(request.image.size)
    finish = Finish()
    notices: tuple[Notice, ...] = ()
    if request.preserve == "exact":
        if request.format not in (None, *_LOSSLESS):
            raise InvalidInput(
                f"format={request.format!r} would alter the protected pixels; use 'png' or 'webp', or "
                'preserve="model" to take the picture as the model made it'
            )
        if (size := shape(request.size, None).pixels) and size != request.image.size:
            raise InvalidInput(
                f"size={request.size!r} differs from the picture's {request.image.size[0]}x"
                f"{request.image.size[1]}, so protected pixels could not stay; leave size out, or use "
                'preserve="model"'
            )
        encoding = "webp" if request.format == "webp" else "png"
        finish = Finish(original=request.image, mask=request.mask, convert=encoding)
    if request.mode is not EditMode.INPAINT:
        if request.preserve == "model":
            raise UnsupportedOption(
                f"{card.ref} does not see the mask when it edits by {request.mode}, and "
                'preserve="model" rules out putting the original back',
                option="mask",
            )
        told = "the model edits the whole picture, then the original is put back outside the mask"
        request, notices = request.but(mask=None), (Notice("translated", told, "mask"),)
    return request, finish, notices


def _loaded(image: Image, option: str) -> None:
    if not image.is_fetched:
        raise InvalidInput(
            f"{option} needs the picture's size, and {image.url} was not downloaded; "
            "use Image.from_url(url).fetch(), or edit(...) instead of plan_edit(...)"
        )


def check(card: ModelCard, request: Request) -> tuple[Notice, ...]:
    """Every option that the caller set against the card: supported, noticed or refused."""
    notices = []
    for name, value in request.given().items():
        if name in _RESOLVED_HERE:
            continue
        taken = card.option(name)
        if taken.support == "refused":
            why = f": {taken.note}" if taken.note else f"; it takes {_takes(card)}"
            raise UnsupportedOption(f"{card.ref} has no {name}{why}", option=name)
        if taken.choices and value not in taken.choices:
            allowed = ", ".join(map(repr, taken.choices))
            raise InvalidInput(f"{name}={value!r}: {card.ref} takes {allowed}")
        low, high = taken.low, taken.high
        if (low is not None and value < low) or (high is not None and value > high):
            raise InvalidInput(f"{name}={value!r}: {card.ref} takes {low:g} to {high:g}")
        if taken.support == "translated":
            notices.append(Notice("translated", f"{name}: {taken.note}", name))
        elif not card.known and name not in card.options:
            notices.append(
                Notice("unverified", f"nobody has checked that {card.ref} takes {name}", name)
            )
    if len(request.references) > card.max_references and card.known:
        raise UnsupportedOption(
            f"{card.ref} takes at most {card.max_references} references, not {len(request.references)}",
            option="references",
        )
    if not card.known:
        notices.append(Notice("unverified", f"{card.ref} is not a model diptych knows", "model"))
    return tuple(notices)


_RESOLVED_HERE = frozenset({"n", "size", "aspect", "extra", "mask", "source_prompt", "expand"})
"""Options that the mode, the size rules or the provider's own translation account for."""


def _takes(card: ModelCard) -> str:
    names = sorted(name for name, each in card.options.items() if each.support != "refused")
    return ", ".join(names) or "a prompt only"
