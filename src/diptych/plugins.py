"""Finding providers: a static table first, entry points after it, nothing imported before it is used."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from .address import check_address, may_receive_key
from .cards import ModelCard
from .errors import (
    ConfigurationError,
    DiptychError,
    MissingCredentials,
    NoDefaultModel,
    ProviderNotInstalled,
    UnknownModel,
)
from .keys import Secret
from .provider import Provider, Settings

__all__ = ["ProviderInfo", "checkpoint", "describe", "models", "providers"]

SPEC = 1
"""The version of the provider contract that this core speaks."""

GROUP = "diptych.providers"
CHECKPOINTS = "diptych.checkpoints"

BUILTIN = {
    "openai": "diptych_openai:OpenAIProvider",
    "fal": "diptych_fal:FalProvider",
    "diffusers": "diptych_diffusers:DiffusersProvider",
    "autoregressive": "diptych_autoregressive:AutoregressiveProvider",
}

POCKET = ("diffusers/pocket", "autoregressive/pocket")


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """One provider, installed or not. `problem` says why it cannot be used, None when it can."""

    name: str
    target: str
    distribution: str
    version: str | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def split(ref: str) -> tuple[str, str]:
    """ "provider/model" in its two parts. Raises `UnknownModel` for anything else."""
    name, slash, model = ref.strip().partition("/")
    if not slash or not name or not model:
        raise UnknownModel(
            f'{ref!r} is not a model; write "provider/model", for example "openai/gpt-image-2"'
        )
    return name, model


@lru_cache(maxsize=64)
def load(name: str) -> type[Provider]:
    """The provider class called `name`.

    Raises `ProviderNotInstalled` with the pip command, `UnknownModel` with near names, or
    `ConfigurationError` when the plug-in is broken or speaks another version of the contract.
    """
    target = BUILTIN.get(name)
    if target is not None:
        return _import(name, target, distribution=f"diptych-{name}")
    found = {point.name: point for point in _entry_points(GROUP)}
    if name not in found:
        near = get_close_matches(name, [*BUILTIN, *found], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownModel(
            f"there is no provider {name!r}{hint} (known: {', '.join(sorted({*BUILTIN, *found}))}); "
            "a third-party provider has to be installed with pip first",
            nearest=near,
        )
    return _import(name, found[name].value, distribution=_distribution(found[name]))


def _import(name: str, target: str, *, distribution: str) -> type[Provider]:
    module_name, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != module_name.partition(".")[0]:
            raise ProviderNotInstalled(
                f"provider {name!r} needs {error.name}, which is not installed; "
                f"run: pip install {distribution}"
            ) from error
        raise ProviderNotInstalled(
            f"provider {name!r} is not installed; run: pip install {distribution}"
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"provider {name!r} ({target}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    spec = getattr(found, "spec", None)
    if spec != SPEC:
        raise ConfigurationError(
            f"provider {name!r} ({target}) speaks version {spec!r} of the provider contract and this "
            f"diptych speaks {SPEC}; install matching versions of diptych and {distribution}"
        )
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise ConfigurationError(f"provider {name!r}: {target} is not a diptych Provider class")
    return found


def configure(
    name: str,
    *,
    api_key: str | None,
    base_url: str | None,
    device: str | None,
    dtype: str | None,
    speed: str,
    options: dict[str, Any],
) -> tuple[type[Provider], Settings]:
    """Check a client's settings against what provider `name` takes. Nothing is ignored."""
    kind = load(name)
    unknown = sorted(set(options) - kind.settings)
    if unknown:
        takes = ", ".join(sorted(kind.settings)) or "none"
        near = get_close_matches(unknown[0], kind.settings, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(
            f"provider {name!r} has no setting {', '.join(unknown)}{hint} (its own settings: {takes})"
        )
    if not kind.local:
        given = {"device": device, "dtype": dtype, "speed": None if speed == "exact" else speed}
        for setting, value in given.items():
            if value is not None:
                raise ConfigurationError(
                    f"{setting}={value!r} is for local models; provider {name!r} runs elsewhere"
                )
    elif base_url is not None or api_key is not None:
        raise ConfigurationError(f"provider {name!r} runs on this machine: no api_key, no base_url")
    if base_url is not None:
        check_address("base_url", base_url)
    return kind, Settings(
        api_key=_key(kind, name, api_key, base_url),
        base_url=base_url,
        device=device,
        dtype=dtype,
        speed=speed,
        options=options,
    )


def _key(kind: type[Provider], name: str, given: str | None, base_url: str | None) -> Secret | None:
    """The caller's key, or one from the environment if the key may go to that host."""
    if given is not None:
        if (
            not isinstance(given, str)
            or not given.strip()
            or not (given.isascii() and given.isprintable())
        ):
            raise ConfigurationError("api_key must be a printable ASCII text that is not empty")
        return Secret(given.strip())
    if base_url is not None and not may_receive_key(base_url, kind.key_hosts):
        return None
    for variable in kind.env:
        parts = [os.environ.get(part, "").strip() for part in variable.split(":")]
        if all(parts):
            return Secret(":".join(parts))
    if kind.needs_key and base_url is None:
        looked = " or ".join(variable.replace(":", " with ") for variable in kind.env)
        raise MissingCredentials(
            f"provider {name!r} needs a key: set {looked}, or pass api_key= to ImageClient"
        )
    return None


def default_model() -> str:
    """`DIPTYCH_MODEL`, else the first pocket model that is installed, else `NoDefaultModel`."""
    if named := os.environ.get("DIPTYCH_MODEL", "").strip():
        return named
    points = {point.name for point in _entry_points(CHECKPOINTS)}
    for ref in POCKET:
        if ref.replace("/", ".") in points:
            return ref
    raise NoDefaultModel(
        'no model was named: write ImageClient("openai/gpt-image-2"), or set DIPTYCH_MODEL, or install '
        "the pocket models that run offline: pip install 'diptych[local]'"
    )


def checkpoint(name: str) -> Any | None:
    """The function that returns the folder of a checkpoint shipped as a package, by entry point."""
    for point in _entry_points(CHECKPOINTS):
        if point.name == name:
            return point.load()
    return None


def providers() -> list[ProviderInfo]:
    """Every provider that is built in or installed; a broken one is listed with its problem."""
    found = {point.name: point for point in _entry_points(GROUP)}
    infos = []
    for name in sorted({*BUILTIN, *found}):
        target = BUILTIN.get(name) or found[name].value
        distribution = f"diptych-{name}" if name in BUILTIN else _distribution(found[name])
        problem = None
        try:
            load(name)
        except DiptychError as error:
            problem = str(error)
        if name in BUILTIN and name in found and found[name].value != BUILTIN[name]:
            problem = f"{_distribution(found[name])} tries to replace this built-in and is ignored"
        infos.append(ProviderInfo(name, target, distribution, _version(distribution), problem))
    return infos


def models(provider: str | None = None) -> list[ModelCard]:
    """The cards of all known models of one provider, or of every provider that is installed."""
    names = (
        [provider] if provider is not None else [i.name for i in providers() if i.problem is None]
    )
    return [card for name in names for card in load(name)(Settings()).cards()]


def describe(ref: str) -> ModelCard:
    """The card of one model, from local facts; needs no key and no network."""
    name, model = split(ref)
    return load(name)(Settings()).card(model)


def _entry_points(group: str) -> tuple[Any, ...]:
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))


def _distribution(point: Any) -> str:
    return str(point.dist.name if point.dist is not None else point.value.partition(":")[0])


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
