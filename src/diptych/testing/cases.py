"""Cases: what the suite plans. A case is one model in one edit mode, with its bare request."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

from ..cards import EditMode, ModelCard
from ..conditioning import Expand
from ..errors import UnknownModel
from ..image import Image
from ..keys import Secret
from ..mask import Mask
from ..notices import Notice
from ..options import EditOptions
from ..plan import Plan, State
from ..planner import History, make_plan
from ..provider import Provider, Settings
from ..request import Request
from .peers import Peer

__all__ = [
    "KEY",
    "OPTIONS",
    "PROMPTS",
    "SOURCE",
    "Case",
    "Planned",
    "Subject",
    "box",
    "picture",
]

KEY = "diptych-canary:7f3a9c51e2d4b8"
"""The key that providers are made with: no part of it must turn up in any text."""

PROMPTS = ("a lighthouse on a cliff", "a harbour at night")
SOURCE = "a windmill on a cliff"
OPTIONS = tuple(name for name in EditOptions.__annotations__ if name not in ("mode", "preserve"))
"""Every option that a caller can set, by name."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and those of its notices that the provider itself wrote."""

    plan: Plan
    own: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One model in one edit mode (None: text to image)."""

    provider: Provider
    card: ModelCard
    mode: EditMode | None = None
    state: State | None = None
    size: tuple[int, int] = (96, 64)
    prompts: tuple[str, str] = PROMPTS

    def __str__(self) -> str:
        """The same in every process, wherever a folder of the tests lies."""
        provider, _, model = self.card.ref.partition("/")
        name = Path(model).name if Path(model).is_absolute() else model
        return f"{provider}/{name}-{self.mode or 'generate'}"

    @property
    def in_force(self) -> ModelCard:
        """The card by which options are judged in this mode."""
        return self.provider.card_for(self.card, self.mode)

    def base(self) -> dict[str, Any]:
        """What the mode cannot do without."""
        if self.mode is None:
            return {}
        given: dict[str, Any] = {"image": picture(self.size), "mode": str(self.mode)}
        if self.mode is EditMode.INPAINT:
            given["mask"] = box(self.size)
        elif self.mode is EditMode.OUTPAINT:
            given["expand"] = Expand(left=64, right=64)
        elif self.mode is EditMode.INVERT:
            given["source_prompt"] = SOURCE
        return given

    def planned(self, **options: Any) -> Planned:
        """The plan of the bare request with `options`, made by the core's planner."""
        request = Request.build(**{"prompt": self.prompts[0], **self.base(), **options})
        history = None
        if self.state is not None:
            history = History(image=request.image, prompt=SOURCE, state=self.state)
        listener = _Listener(self.provider)
        plan = make_plan(cast("Provider", listener), self.card, request, history=history)
        return Planned(plan, listener.own)

    def plan(self, **options: Any) -> Plan:
        """The plan of the bare request with `options`."""
        return self.planned(**options).plan


class _Listener:
    """Stands before a provider and keeps the notices that it writes, apart from the core's."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.own: tuple[Notice, ...] = ()

    def card_for(self, card: ModelCard, mode: EditMode | None) -> ModelCard:
        return self._provider.card_for(card, mode)

    def plan(self, request: Request, card: ModelCard, state: State | None) -> Plan:
        plan = self._provider.plan(request, card, state)
        self.own = plan.notices
        return plan


class Subject:
    """What is tested: the part of a suite that its author fills in.

    `provider` is the class; nothing else is needed. `models` are the references to test (empty:
    every known model), `unknown_model` a name, without "provider/", that nobody has described.
    `settings` are settings as `ImageClient` takes them. `prompts` are two that ask for different
    pictures, for models that do not read every text. `picture_size` is the size of the pictures that
    are edited, `examples` how many combinations of options each property tries.

    Calls are run when there is something to run them on: `peer` makes a loopback peer for a hosted
    provider (a subclass of `diptych.testing.peers.Peer`), `run_models` are the models that are run
    (empty: all of `models` on a peer, none without one). `grace` is how many seconds a run that was
    told to end may take.
    """

    provider: ClassVar[type[Provider]]
    models: ClassVar[tuple[str, ...]] = ()
    unknown_model: ClassVar[str] = "no-such-model"
    settings: ClassVar[Mapping[str, Any]] = {}
    prompts: ClassVar[tuple[str, str]] = PROMPTS
    picture_size: ClassVar[tuple[int, int]] = (96, 64)
    examples: ClassVar[int] = 5
    peer: ClassVar[Callable[..., Peer] | None] = None
    run_models: ClassVar[tuple[str, ...]] = ()
    grace: ClassVar[float] = 10.0

    @classmethod
    def state(cls, card: ModelCard) -> State | None:
        """For a model that can `continue`: a conversation state as an `Outcome` carries it."""
        return None

    @classmethod
    def made(cls, **more: Any) -> Provider:
        """A provider as `ImageClient` makes it, with a key that must not turn up anywhere."""
        given = {**cls.settings, **more}
        key = None if cls.provider.local else given.pop("api_key", KEY)
        common = ("base_url", "device", "dtype", "speed")
        return cls.provider(
            Settings(
                api_key=None if key is None else Secret(key),
                options={name: given[name] for name in given if name not in common},
                **{name: given[name] for name in common if name in given},
            )
        )

    @classmethod
    def cards(cls) -> tuple[ModelCard, ...]:
        """The cards to test."""
        return _cards(cls)  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Every model that is still alive in every mode that it has, and the unknown model."""
        return _cases(cls)  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def run_cases(cls) -> tuple[Case, ...]:
        """Those of the cases whose calls are run; a conversation needs a first turn and is not one."""
        chosen = cls.run_models
        if not chosen and cls.peer is not None:
            chosen = tuple(card.ref for card in cls.cards())
        return tuple(
            case
            for case in cls.cases()
            if case.card.ref in chosen and case.mode is not EditMode.CONTINUE
        )


@cache
def _cards(suite: type[Subject]) -> tuple[ModelCard, ...]:
    provider = suite.made()
    if not suite.models:
        return tuple(provider.cards())
    return tuple(provider.card(ref.removeprefix(f"{provider.name}/")) for ref in suite.models)


@cache
def _cases(suite: type[Subject]) -> tuple[Case, ...]:
    provider = suite.made()
    cards = [card for card in suite.cards() if not retired(card)]
    with suppress(UnknownModel):
        cards.append(provider.card(suite.unknown_model))
    cases = []
    for card in cards:
        modes: list[EditMode | None] = [None] if card.generates else []
        for mode in modes + sorted(card.edits):
            state = suite.state(card) if mode is EditMode.CONTINUE else None
            if not retired(provider.card_for(card, mode)):
                cases.append(Case(provider, card, mode, state, suite.picture_size, suite.prompts))
    return tuple(cases)


def retired(card: ModelCard) -> bool:
    """Whether the model was shut down."""
    return card.lifecycle.shutdown is not None and card.lifecycle.shutdown <= date.today()


@cache
def picture(size: tuple[int, int], kind: int = 0) -> Image:
    """A PNG without two pixels alike in a row, so that any change of it shows; another per `kind`."""
    from PIL import Image as pillow

    red = pillow.linear_gradient("L").resize(size)
    green = red.transpose(pillow.Transpose.ROTATE_180)
    ramp = [(40 * kind + value) % 256 for value in range(256)]
    blue = pillow.radial_gradient("L").resize(size).point(ramp)
    file = io.BytesIO()
    pillow.merge("RGB", (red, green, blue)).save(file, "PNG")
    return Image.of(file.getvalue())


@cache
def box(size: tuple[int, int], kind: int = 0) -> Mask:
    """A hard-edged mask that is neither symmetric nor half white; another per `kind`."""
    width, height = size
    inset = 4 * (kind + 1)
    return Mask.box((inset, inset, width // 2, height // 3), size=size)
