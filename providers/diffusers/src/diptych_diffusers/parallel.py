"""Which requests can be drawn by several cards at once, and what is said about the others. No torch."""

from __future__ import annotations

from diptych.errors import ConfigurationError, UnsupportedOption
from diptych.request import Request

from .cards import Described, is_native
from .job import Job
from .recipe import EXTRA

__all__ = ["check_divided", "check_family", "check_heads", "check_parallel"]

_CARDS = {"flux": 8, "qwen": 2}
"""Most cards for a loop of our own whose transformer diffusers can divide by tokens. Qwen-Image masks
texts of unequal lengths, and diffusers joins the masks of unequal shares rightly for two cards only."""

_INSTEAD = "leave parallel out of the client's settings"


def check_parallel(value: object) -> int:
    """The setting `parallel`. Raises `ConfigurationError` for what is no number of cards."""
    if type(value) is not int or not 1 <= value <= 8:
        raise ConfigurationError(
            f"parallel={value!r} must be a whole number of cards from 1 to 8; 1 is the default"
        )
    return value


def check_divided(model: Described, parallel: int, mode: str, asked: Request | Job) -> None:
    """Refuse a request that `parallel` cards cannot draw together.

    Raises `ConfigurationError` for a model of which that is never possible, else `UnsupportedOption`.
    """
    if parallel == 1 or (model.facts is None and not model.family.known):
        return  # the latter is known once it is downloaded
    check_family(model, parallel)
    for option in ("adapters", "controls", "references"):
        if getattr(asked, option):
            raise UnsupportedOption(
                f"{option} are for one card, and this client has parallel={parallel}; {_INSTEAD}",
                option=option,
            )
    native = is_native(model.family, mode, controls=False, references=False)
    if not (native and set(asked.extra) <= EXTRA):
        raise UnsupportedOption(
            f"{mode} is drawn by a pipeline of diffusers here, which runs on one card, and this client has "
            f"parallel={parallel}; {_INSTEAD}",
            option="mode",
        )


def check_family(model: Described, parallel: int) -> None:
    """Raises `ConfigurationError` for a model that never runs on so many cards."""
    kind = model.family
    most = _CARDS.get(kind.native, 1)
    if most == 1:
        raise ConfigurationError(
            f"parallel={parallel}: {kind.title} runs on one card; FLUX.1 and Qwen-Image run on several; "
            f"{_INSTEAD}"
        )
    if parallel > most:
        raise ConfigurationError(f"parallel={parallel}: {kind.title} runs on up to {most} cards")


def check_heads(heads: int, parallel: int) -> None:
    """Every card attends with its own heads. Raises `ConfigurationError` when they do not come out even."""
    if heads % parallel:
        able = ", ".join(str(each) for each in range(1, 9) if heads % each == 0)
        raise ConfigurationError(
            f"parallel={parallel} does not divide the {heads} attention heads of this model; take one of "
            f"{able}"
        )
