"""`compare`: the same words to several models, on one contact sheet and in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DiptychError, InvalidInput
from ..image import Image
from ..plugins import split
from ..result import Result, Usage
from ..sheet import Panel, contact_sheet
from ..sync import ImageClient
from .facts import table
from .failure import exit_code
from .files import Target, check_folder, keep, slug, target
from .paint import outcome
from .terminal import emit, say
from .values import client_settings, generate_options
from .watch import waiting

__all__ = ["compare"]


@dataclass(slots=True)
class _Column:
    """One model: its client, and what came of each message, in order, up to the first error."""

    client: ImageClient
    turns: list[Result] = field(default_factory=list)
    paths: list[list[Path]] = field(default_factory=list)
    error: DiptychError | None = None


def compare(prompt: str, given: Mapping[str, Any]) -> int:
    """Ask every model the same, one after the other; the exit code.

    What is wrong before the first request stops everything; a failure after it ends its own column.
    """
    messages = [prompt, *(given["edit"] or ())]
    options = generate_options(given)
    sheet = _target(given, prompt)
    sheet.check(1, None)
    aside = None if given["keep"] is None else Path(given["keep"])
    if aside is not None:
        check_folder(aside)
    with ExitStack() as stack:
        columns = [
            _Column(stack.enter_context(client)) for client in _clients(given["models"], given)
        ]
        for column in columns:
            column.client.plan(prompt, **options)  # raises for what a model does not take
        for column in columns:
            _talk(column, messages, options, aside, quiet=given["quiet"])
    failures = [column.error for column in columns if column.error is not None]
    paths = _drawn(columns, messages, sheet) if any(column.turns for column in columns) else []
    if given["as_json"]:
        emit(_document(columns, paths))
    else:
        table(_HEADS, [row for column in columns for row in _rows(column, messages)])
        for path in paths:
            print(path)
    return exit_code(failures[0]) if failures else 0


def _target(given: Mapping[str, Any], prompt: str) -> Target:
    where = target(given["output"], f"{prompt} compared", force=given["force"])
    if where.stdout:
        raise InvalidInput("-o - : the table is written to stdout; name a file for the sheet")
    if where.format not in (None, "png", "jpeg", "webp"):
        raise InvalidInput(f"a sheet is png, jpeg or webp, not {where.format}")
    return where


def _clients(refs: str, given: Mapping[str, Any]) -> list[ImageClient]:
    """A client for each model. Raises `InvalidInput`, and what `ImageClient` raises."""
    names = [ref.strip() for ref in refs.split(",")]
    if not all(names):
        raise InvalidInput(f"--models {refs!r}: write references with commas between them, a/b,c/d")
    addresses = {}
    for text in given["base_url"] or ():
        provider, equals, url = text.partition("=")
        if not equals or "/" in provider:
            raise InvalidInput(
                f"--base-url {text!r}: write PROVIDER=URL, such as openai=http://..."
            )
        addresses[provider] = url
    if strangers := set(addresses) - {split(name)[0] for name in names}:
        raise InvalidInput(
            f"--base-url {min(strangers)}=...: no model of {min(strangers)} is compared"
        )
    shared = client_settings({**given, "base_url": None})
    clients = []
    for name in names:
        own = client_settings({"base_url": addresses.get(split(name)[0])})
        clients.append(ImageClient(name, **shared, **own))
    return clients


def _talk(
    column: _Column,
    messages: Sequence[str],
    options: Mapping[str, Any],
    aside: Path | None,
    *,
    quiet: bool,
) -> None:
    client, model = column.client, column.client.model
    # One picture needs no conversation, which some models pay a chat model for.
    ask = client.generate if len(messages) == 1 else client.conversation().send
    for message in messages:
        try:
            with waiting(f"{model}: {message}", quiet=quiet):
                result = ask(message, **options)
        except DiptychError as error:
            column.error = error
            say(f"diptych: {model}: {error} ({type(error).__name__})")
            return
        column.turns.append(result)
        # The sheet shows them smaller than they were paid for.
        stem = slug(f"{model} {message}")
        column.paths.append([] if aside is None else keep(result.images, Target(aside, stem)))


# What came of it


def _drawn(columns: Sequence[_Column], messages: Sequence[str], where: Target) -> list[Path]:
    rows = [[_panel(column, place) for column in columns] for place in range(len(messages))]
    sheet = Image.of(contact_sheet(rows, titles=messages))
    return keep([sheet.convert(where.format or "png")], where)


def _panel(column: _Column, place: int) -> Panel:
    model = column.client.model
    if place < len(column.turns):
        result = column.turns[place]
        image = result.images[0] if result.images else None
        seen = image if image is None or image.format != "svg" else None
        return Panel(seen, (result.model, f"{_mode(result)}, {result.timings.total:.1f} s"))
    if place == len(column.turns) and column.error is not None:
        return Panel(None, (model, f"{type(column.error).__name__}: {str(column.error)[:200]}"))
    return Panel(None, (model, "not asked"))


_HEADS = ("model", "message", "mode", "time", "cost", "work", "notices")


def _rows(column: _Column, messages: Sequence[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            result.model,
            message,
            _mode(result),
            f"{result.timings.total:.1f} s",
            str(result.cost),
            _work(result.usage),
            "; ".join(map(str, result.notices)) or "-",
        )
        for result, message in zip(column.turns, messages, strict=False)
    ]
    if column.error is not None:
        told = f"{type(column.error).__name__}: {column.error}"
        rows.append((column.client.model, messages[len(rows)], "-", "-", "-", "-", told))
    return rows


def _mode(result: Result) -> str:
    return "-" if result.plan is None else str(result.plan.mode)


def _work(usage: Usage | None) -> str:
    """Steps or tokens, or the provider's own units."""
    if usage is None:
        return "-"
    counts = {
        "steps": usage.steps,
        "tokens": usage.tokens if usage.tokens is not None else usage.total_tokens,
        "units": usage.units,
    }
    known = (f"{count:g} {unit}" for unit, count in counts.items() if count is not None)
    return next(known, "-")


def _document(columns: Sequence[_Column], paths: Sequence[Path]) -> dict[str, Any]:
    return {
        "sheet": str(paths[0]) if paths else None,
        "models": [
            {
                "model": column.client.model,
                "turns": [
                    outcome(result, kept)
                    for result, kept in zip(column.turns, column.paths, strict=True)
                ],
                "error": column.error
                and {"type": type(column.error).__name__, "message": str(column.error)},
            }
            for column in columns
        ],
    }
