"""`generate`, `edit`, `plan` and `resume`: one request each, from flags to files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ..errors import DiptychError, InvalidInput
from ..image import Image
from ..notices import Notice
from ..plan import Plan
from ..result import Result
from ..sync import ImageClient, Job
from .failure import Failed
from .files import Target, check_folder, keep, target
from .terminal import clean, emit, mute, say
from .values import client_settings, edit_options, generate_options, picture
from .watch import follow

__all__ = ["edit", "failed", "generate", "outcome", "plan", "resume"]


@dataclass(frozen=True, slots=True)
class _Job:
    """One request as the command line understood it."""

    prompt: str
    image: Image | None
    options: dict[str, Any]
    where: Target
    previews: Target | None
    timeout: float | None

    def plan(self, client: ImageClient) -> Plan:
        if self.image is None:
            return client.plan(self.prompt, **self.options)
        return client.plan_edit(self.image, self.prompt, **self.options)

    def submit(self, client: ImageClient) -> Job:
        if self.image is None:
            return client.submit(self.prompt, **self.options)
        return client.submit_edit(self.image, self.prompt, **self.options)


def generate(prompt: str, given: Mapping[str, Any]) -> None:
    """Pictures from a text, into files."""
    _paint(prompt, None, given)


def edit(image: str, prompt: str, given: Mapping[str, Any]) -> None:
    """A picture changed by a text, into a file."""
    _paint(prompt, image, given)


def plan(prompt: str, image: str | None, given: Mapping[str, Any]) -> None:
    """What the two would do: nothing is sent and no file is written."""
    with ImageClient(given["model"], **client_settings(given)) as client:
        job = _understood(prompt, image, given, client, needs_size=False)
        _show(job.plan(client), given)


def _paint(prompt: str, image: str | None, given: Mapping[str, Any]) -> None:
    with ImageClient(given["model"], **client_settings(given)) as client:
        job = _understood(prompt, image, given, client, needs_size=not given["dry_run"])
        planned = job.plan(client)
        job.where.check(job.options.get("n", 1), job.options.get("format"))
        if job.previews is not None:
            check_folder(job.previews.folder)
        if given["dry_run"]:
            _show(planned, given)
            return
        try:
            result, previews = follow(
                job.submit(client), planned.model, quiet=given["quiet"], previews=job.previews
            )
        except DiptychError as error:
            raise failed(error, job.where, _resuming(given, image)) from error
        _deliver(result, job.where, given, previews)


def _understood(
    prompt: str,
    image: str | None,
    given: Mapping[str, Any],
    client: ImageClient,
    *,
    needs_size: bool,
) -> _Job:
    options, editing = generate_options(given), edit_options(given)
    if image is None and editing:
        raise InvalidInput(f"{', '.join(editing)}: this is for editing; name the picture to edit")
    options |= editing
    where = target(given.get("output"), prompt, force=given.get("force", False))
    if where.stdout and given["as_json"]:
        raise InvalidInput("-o - and --json both want stdout; name a file")
    if "format" not in options and where.format is not None and client.describe().known:
        # The planner converts, or refuses, where the model cannot make it.
        options["format"] = where.format
        if not given["quiet"]:
            name = f"{where.stem}{where.suffix}"
            say(f"assumed: format={where.format}, because of the name {name}")
    return _Job(
        prompt,
        None if image is None else _source(image, options, fetch=needs_size),
        options,
        where,
        _previews(given, where),
        given.get("timeout"),
    )


def _source(text: str, options: Mapping[str, Any], *, fetch: bool) -> Image:
    """The picture to edit, downloaded where planning needs its size."""
    image = picture(text)
    if image.is_fetched or not {"mask", "expand"} & set(options):
        return image
    if not fetch:
        raise InvalidInput(
            "a mask or --expand needs the picture's size, and a plan downloads nothing; save the "
            "picture first and name the file"
        )
    return image.fetch()


def _previews(given: Mapping[str, Any], where: Target) -> Target | None:
    """Previews are paid for, so there must be a place for them."""
    count, folder = given.get("previews"), given.get("preview_dir")
    if not count and folder is None:
        return None
    if not count or folder is None:
        raise InvalidInput("--previews N and --preview-dir DIR go together")
    return Target(Path(folder), where.stem)


def _show(planned: Plan, given: Mapping[str, Any]) -> None:
    if given["as_json"]:
        emit(planned.to_dict())
    else:
        print(clean(planned))


def resume(handle: str, given: Mapping[str, Any]) -> None:
    """Bring a job home that was submitted before."""
    from ..ticket import Ticket

    ticket = Ticket.decode(handle)
    where = target(given["output"], ticket.prompt, force=given["force"])
    where.check(len(ticket.handles), ticket.convert)
    with ImageClient(given["model"] or ticket.model, **client_settings(given)) as client:
        brought = {name: given[name] for name in ("mask", "preserve") if given[name] is not None}
        if given["image"] is not None:
            brought["image"] = picture(given["image"])
        try:
            job = client.resume(handle, **brought)
            result, _ = follow(job, ticket.model, quiet=given["quiet"])
        except DiptychError as error:
            raise failed(error, where, _resuming(given, given["image"])) from error
        _deliver(result, where, given)


# What came of it


def outcome(result: Result, paths: Sequence[Path], previews: Sequence[Path] = ()) -> dict[str, Any]:
    """The JSON document of a result. A picture that went to stdout has no path."""
    told = [None] * (len(result.images) - len(paths)) + [str(path) for path in paths]
    return {
        "model": result.model,
        "mode": None if result.plan is None else str(result.plan.mode),
        "why": None if result.plan is None else result.plan.why,
        "images": [
            {
                "path": path,
                "width": image.width,
                "height": image.height,
                "format": image.format,
                "seed": image.seed,
                "sha256": image.sha256,
            }
            for image, path in zip(result.images, told, strict=True)
        ],
        "previews": [str(path) for path in previews],
        "text": result.text,
        "cost": {
            "amount": None if result.cost.amount is None else str(result.cost.amount),
            "currency": result.cost.currency,
            "source": result.cost.source,
            "price_version": result.cost.price_version,
        },
        "usage": None if result.usage is None else result.usage.to_dict(),
        "notices": [notice.to_dict() for notice in result.notices],
        "request_id": result.request_id,
        "timings": {"total": result.timings.total, "provider": result.timings.provider},
        "plan": None if result.plan is None else result.plan.to_dict(),
    }


def _deliver(
    result: Result, where: Target, given: Mapping[str, Any], previews: Sequence[Path] = ()
) -> None:
    paths = keep(result.images, where)
    if not result.images:
        _remark(result, previews)  # it may be billed all the same
        _ = result.image  # raises, with what the model said
    try:
        if given["as_json"]:
            emit(outcome(result, paths, previews))
        else:
            for path in paths:
                typer.echo(os.fsencode(path))
    except OSError:  # stdout is gone or full; the pictures are not
        mute()
        for path in paths:
            say(f"saved: {path}")
        raise
    if not given["quiet"]:
        _remark(result, previews)


def _remark(result: Result, previews: Sequence[Path]) -> None:
    notices: Sequence[Notice] = result.notices
    for notice in notices:
        say(notice)
    if result.text:
        say(f"the model says: {result.text}")
    for path in previews:
        say(f"preview: {path}")
    mode = "" if result.plan is None else f" {result.plan.mode},"
    say(f"{result.model}:{mode} cost {result.cost}, {result.timings.total:.1f} s")


def failed(error: DiptychError, where: Target, resuming: str = "") -> Failed:
    """`error`, with what was obtained in files and with the way to the rest."""
    facts: dict[str, Any] = {}
    advice = []
    if error.partial is not None:
        paths = keep(error.partial.images, where)
        facts |= {key: outcome(error.partial, paths)[key] for key in ("images", "cost", "notices")}
        advice += [f"came before it and is paid for: {path}" for path in paths]
    handle = error.handle or getattr(error, "job", None)
    if handle is not None:
        facts["handle"] = handle
        advice.append(f"to go on waiting for it: diptych resume {handle}{resuming}")
    return Failed(error, facts=facts, advice=advice)


def _resuming(given: Mapping[str, Any], image: str | None) -> str:
    """The flags that `resume` needs again."""
    again = {
        "--base-url": given.get("base_url"),
        "--image": image if given.get("mask") or given.get("expand") else None,
        "--mask": given.get("mask"),
        "--preserve": given.get("preserve"),
    }
    words = [word for flag, value in again.items() if value is not None for word in (flag, value)]
    # A header or an address may hold a secret, and this line ends up in logs.
    names = [each.partition("=")[0] for each in given.get("setting") or ()]
    words += [word for name in names for word in ("--setting", f"{name}=...")]
    shown = ("..." if "@" in word else word for word in words)
    return "".join(f" {shlex.quote(word)}" for word in shown)
