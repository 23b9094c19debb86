"""`doctor`: what is installed, what is set, what is retired and what is broken.

Keys are looked for and never shown, not even in part.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from .. import __version__
from ..address import may_receive_key
from ..errors import DiptychError, RetiredModel
from ..planner import lifecycle
from ..plugins import ProviderInfo, describe, load, providers
from ..provider import Provider, Settings
from .facts import table
from .terminal import emit
from .values import KEY

__all__ = ["doctor", "findings"]

Verdict = Literal["ok", "info", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    verdict: Verdict
    detail: str


def doctor(*, as_json: bool) -> bool:
    """Print the findings. True unless something is broken."""
    found = list(findings())
    healthy = all(each.verdict != "broken" for each in found)
    if as_json:
        emit({"healthy": healthy, "findings": [asdict(each) for each in found]})
    else:
        table(
            ("about", "verdict", "detail"),
            [(each.about, each.verdict, each.detail) for each in found],
        )
    return healthy


def findings(today: date | None = None) -> Iterator[Finding]:
    """Everything there is to say; no network is touched and nothing heavy is imported."""
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield Finding("diptych", "ok", __version__)
    for info in providers():
        yield _plugin(info)
        if info.problem is None:
            yield from _provider(load(info.name), today or date.today())
    yield from _variables()
    yield _package("pybase64", "pictures are decoded faster with it: pip install 'diptych[fast]'")
    yield _package("torch", "only local models need it")
    yield _cache()


def _plugin(info: ProviderInfo) -> Finding:
    about = f"provider {info.name}"
    if info.problem is None:
        return Finding(about, "ok", f"{info.distribution} {info.version or '(version unknown)'}")
    # A distribution that is there and cannot be used is broken; one that is not there is a choice.
    return Finding(about, "info" if info.version is None else "broken", info.problem)


def _provider(kind: type[Provider], today: date) -> Iterator[Finding]:
    states = {variable: _set(variable) for choice in kind.env for variable in choice.split(":")}
    for variable, state in states.items():
        yield Finding(f"key of {kind.name}", "info", f"{variable}: {state}")
    if kind.needs_key and not any(
        all(states[part] == "set" for part in choice.split(":")) for choice in kind.env
    ):
        wanted = " or ".join(choice.replace(":", " with ") for choice in kind.env)
        yield Finding(f"key of {kind.name}", "warning", f"none; set {wanted}")
    yield from _addresses(kind)
    for card in kind(Settings()).cards():
        try:
            for notice in lifecycle(card, today):
                yield Finding("lifecycle", "warning", notice.message)
        except RetiredModel as error:
            yield Finding("lifecycle", "info", str(error))


def _set(variable: str) -> str:
    value = os.environ.get(variable)
    if value is None:
        return "not set"
    return "set" if value.strip() else "set, but empty"


def _addresses(kind: type[Provider]) -> Iterator[Finding]:
    """Variables by which vendors' own tools are sent elsewhere. diptych reads none of them."""
    prefixes = {variable.partition("_")[0] for variable in kind.env}
    for variable in sorted(f"{prefix}_BASE_URL" for prefix in prefixes):
        url = os.environ.get(variable, "").strip()
        if not url:
            continue
        allowed = may_receive_key(url, kind.key_hosts)
        key = "a key from the environment would go there" if allowed else (
            f"a key from the environment would not go there, only one from {KEY}"
        )  # fmt: skip
        yield Finding(
            f"address of {kind.name}",
            "info" if allowed else "warning",
            f"{variable} points to {_bare(url)}; diptych does not read it, --base-url does that; {key}",
        )


def _bare(url: str) -> str:
    """The host of an address: user, password, path and query may hold secrets."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "something that is no address"
    return f"{parts.scheme or '?'}://{parts.hostname or '?'}{port}"


def _variables() -> Iterator[Finding]:
    yield Finding("key for --base-url", "info", f"{KEY}: {_set(KEY)}")
    named = os.environ.get("DIPTYCH_MODEL", "").strip()
    if not named:
        yield Finding("default model", "info", "DIPTYCH_MODEL: not set")
        return
    try:
        lifecycle(describe(named), date.today())
    except DiptychError as error:
        yield Finding("default model", "broken", f"DIPTYCH_MODEL: {error}")
    else:
        yield Finding("default model", "ok", f"DIPTYCH_MODEL: {named}")


def _package(name: str, purpose: str) -> Finding:
    if find_spec(name) is None:
        return Finding(name, "info", f"not installed; {purpose}")
    return Finding(name, "ok", "installed")


def _cache() -> Finding:
    from platformdirs import user_cache_path

    path = user_cache_path("diptych", appauthor=False)
    there = next(each for each in (path, *path.parents) if each.exists())
    if not os.access(there, os.W_OK):
        return Finding("cache", "broken", f"{path} cannot be written to")
    return Finding("cache", "ok", f"{path}{'' if Path(path).is_dir() else ' (not made yet)'}")
