"""What a plug-in states about itself: its class and its cards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from typing import Any, ClassVar

from ..cards import EditMode, ModelCard, Option
from ..client import AsyncImageClient
from ..errors import UnknownModel
from ..plugins import SPEC
from ..provider import Provider
from .cases import OPTIONS, Subject
from .planning import offline

__all__ = ["FactsSuite"]

_PROBE = """
import json, sys
asked = json.load(sys.stdin)
sys.path[:] = asked["path"]
import importlib
from datetime import date
from diptych.errors import RequestError
from diptych.planner import make_plan
from diptych.provider import Settings
from diptych.request import Request
found = importlib.import_module(asked["module"])
for part in asked["name"].split("."):
    found = getattr(found, part)
provider = found(Settings())
for card in provider.cards():
    end = card.lifecycle.shutdown
    if card.generates and (end is None or end > date.today()):
        card = provider.card(card.ref.partition("/")[2])
        try:
            print(make_plan(provider, card, Request(prompt="a lighthouse on a cliff")))
        except RequestError as error:  # some need more than a prompt
            print(error)
sys.stderr.write("\\nLOADED " + json.dumps([name for name in asked["never"] if name in sys.modules]))
"""


class FactsSuite(Subject):
    """Tests of the class attributes and of the cards."""

    heavy: ClassVar[tuple[str, ...]] = ("torch",)
    """Modules, beside those of `requires`, that planning must not import."""

    def test_class_facts(self) -> None:
        """The class attributes are of the types and values that the contract names."""
        kind = self.provider
        assert isinstance(kind, type) and issubclass(kind, Provider), (
            f"provider={kind!r} must be the class, and inherit diptych.provider.Provider"
        )
        assert kind.spec == SPEC, f"spec={kind.spec!r} must be {SPEC}, the version of the contract"
        name = getattr(kind, "name", None)
        assert isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_-]*", name), (
            f"name={name!r} must be lower-case letters, digits, - and _, without a slash: it is the "
            'part before the slash in "provider/model" and the name of the entry point'
        )
        for attribute in ("env", "key_hosts"):
            values = getattr(kind, attribute)
            assert isinstance(values, tuple) and all(isinstance(each, str) for each in values), (
                f"{attribute}={values!r} must be a tuple of strings; for one write ({values!r},)"
            )
        for host in kind.key_hosts:
            assert re.fullmatch(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)+", host), (
                f"key_hosts has {host!r}; write a host in lower case without scheme, port or path, or "
                'a suffix such as ".example.com"'
            )
        assert kind.env or not kind.needs_key, "needs_key=True without env: name the variable"
        assert kind.key_hosts or not kind.needs_key, (
            "needs_key=True without key_hosts: say which hosts a key from the environment may go to"
        )
        taken = sorted(kind.settings & set(AsyncImageClient.__init__.__annotations__))
        assert not taken, f"settings has {', '.join(taken)}, which ImageClient keeps for itself"

    def test_planning_imports_no_sdk(self) -> None:
        """Law 8: making a provider, its cards and its plans imports no SDK, in a fresh interpreter."""
        kind = self.provider
        own = kind.__module__.partition(".")[0]
        asked = {
            "path": sys.path,
            "module": kind.__module__,
            "name": kind.__qualname__,
            "never": sorted({*_modules_of(kind.requires), *self.heavy} - {own}),
        }
        ran = subprocess.run(
            [sys.executable, "-c", _PROBE],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, (
            f"{kind.__module__}:{kind.__qualname__} cannot be imported and planned with in a fresh "
            f"interpreter, without any key or setting:\n{ran.stderr[-3000:]}"
        )
        loaded = json.loads(ran.stderr.rpartition("LOADED ")[2])
        assert not loaded, (
            f"planning imported {', '.join(loaded)}; import the SDK inside run(), so that a program "
            "that only plans does not pay for it"
        )

    def test_cards_are_found_by_name(self) -> None:
        """Every card appears once, under the provider's name, and `card(model)` gives it back."""
        with offline():
            provider = self.made()
            cards = list(provider.cards())
            refs = [card.ref for card in cards]
            prefix = f"{provider.name}/"
            _none(f"{ref} is there twice" for ref in refs if refs.count(ref) > 1)
            _none(
                f"{ref!r} must begin with {prefix!r}" for ref in refs if not ref.startswith(prefix)
            )
            _none(
                f"card({card.ref.removeprefix(prefix)!r}) differs from the one in cards()"
                for card in cards
                if provider.card(card.ref.removeprefix(prefix)) != card
            )

    def test_cards_make_sense(self) -> None:
        """Options are those of `Request`, limits hold their defaults, and no fact denies another."""
        kind = type(self.made())
        _none(
            f"{card.ref}: {problem}" for card in self.cards() for problem in _problems(card, kind)
        )

    def test_unknown_model(self) -> None:
        """A model that nobody described gets a permissive card, or `UnknownModel`."""
        try:
            with offline():
                card = self.made().card(self.unknown_model)
        except UnknownModel:
            return
        assert not card.known, (
            f"card({self.unknown_model!r}) claims to know a model that nobody described; return a card "
            "with known=False, or raise UnknownModel with the nearest names"
        )
        expected = f"{self.provider.name}/{self.unknown_model}"
        assert card.ref == expected, f"card({self.unknown_model!r}).ref must be {expected!r}"


def _none(problems: Iterable[str]) -> None:
    """Fails with every problem that there is."""
    found = list(problems)
    assert not found, "\n".join(found)


def _modules_of(requirement: str) -> set[str]:
    """The top-level modules of the distribution in a pip requirement, when it is installed."""
    name = _normal(re.split(r"[\s\[<>=!~;@]", requirement, maxsplit=1)[0])
    return {
        module
        for module, names in packages_distributions().items()
        if name and name in map(_normal, names)
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _problems(card: ModelCard, kind: type[Provider]) -> Iterator[str]:
    if not card.source:
        yield "source is empty; say where the facts were read, and when"
    for name, option in card.options.items():
        if name not in OPTIONS:
            yield (
                f"options has {name!r}, which Request does not have; what only this model knows goes "
                "through extra="
            )
        for problem in _limits(option):
            yield f"option {name!r} {problem}"
    yield from _contradictions(card)
    if card.resumable and kind.resume is Provider.resume:
        yield "resumable is True but the provider has no resume()"


def _contradictions(card: ModelCard) -> Iterator[str]:
    taken = {name for name, option in card.options.items() if option.support != "refused"}
    masks = EditMode.INPAINT in card.edits
    if not (card.generates or card.needs_control or card.edits):
        yield "it neither generates nor edits, so nothing can be asked of it"
    if masks and card.option("mask").support == "refused" and "mask" in card.options:
        yield "it can inpaint but its card refuses mask"
    if "mask" in taken and not masks:
        yield "it takes a mask but edits has no INPAINT"
    if "change" in taken and not card.edits:
        yield "it takes change but edits nothing"
    if "references" in taken and card.max_references < 1:
        yield "it takes references but max_references is 0"
    if "previews" in taken and not card.streams:
        yield "it takes previews but streams is False"
    if card.max_n is not None and card.max_n < 1:
        yield "max_n is below 1"
    if card.sizes.kind in ("fixed", "aspects") and not getattr(card.sizes, card.sizes.kind):
        yield f"sizes are of kind {card.sizes.kind!r} without any"


def _limits(option: Option) -> Iterator[str]:
    low, high = option.low, option.high
    if option.support in ("translated", "refused") and not option.note:
        yield f"is {option.support} without a note: say how, or what to use instead"
    if low is not None and high is not None and low > high:
        yield f"takes {low:g} to {high:g}, which is nothing"
    default: Any = option.default
    if default is not None and option.choices and default not in option.choices:
        yield f"has the default {default!r}, which is not among its choices"
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if number and ((low is not None and default < low) or (high is not None and default > high)):
        yield f"has the default {default!r}, outside its limits"
