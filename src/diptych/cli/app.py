"""The commands: their names, arguments and flags. What they do is imported when they run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Annotated, Any, TypeVar

import typer

from .flags import (
    CLIENT,
    DRY_RUN,
    EDIT,
    FILES,
    FORCE,
    GENERATE,
    QUIET,
    REPORT,
    Flag,
    takes,
)

__all__ = ["app", "run"]

F = TypeVar("F", bound=Callable[..., None])

app = typer.Typer(
    name="diptych",
    help="One client for the two ways in which machines paint: autoregressive and diffusion.",
    epilog=(
        "Exit codes: 0 done, 2 wrong request, 3 wrong set-up, 4 the provider failed, 5 moderation, "
        "6 deadline, 7 outcome unknown, 130 interrupted. Keys come from the environment."
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)

_Usage: Any = typer.BadParameter.__mro__[1]
"""What typer raises for arguments it cannot read; it has no public name of its own."""

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What to paint, or what to change.")]


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="diptych", standalone_mode=False)
    except _Usage as error:
        return _misused(error, as_json="--json" in arguments)
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0


def _misused(error: Any, *, as_json: bool) -> int:
    from .failure import USAGE
    from .terminal import emit

    if as_json:
        message = error.format_message()
        emit({"error": {"type": "UsageError", "message": message, "handle": None}}, indent=None)
    error.show()
    return USAGE


def _command(*flags: Flag) -> Callable[[F], F]:
    """Register a command that takes `flags`; what it raises becomes an exit code."""

    def register(function: F) -> F:
        described = takes(*flags)(function)

        @wraps(described)
        def told(**given: Any) -> None:
            from .failure import attempt

            code = attempt(
                partial(function, **given),
                as_json=given.get("as_json", False),
                traceback=given.get("traceback", False),
            )
            if code:
                raise typer.Exit(code)

        told.__signature__ = inspect.signature(described, eval_str=True)  # type: ignore[attr-defined]  # functions have it
        app.command()(told)
        return function

    return register


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        print(f"diptych {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@_command(*CLIENT, *GENERATE, *FILES, DRY_RUN, QUIET, *REPORT)
def generate(prompt: Prompt, **given: Any) -> None:
    """Make pictures from a text."""
    from .paint import generate

    generate(prompt, given)


@_command(*CLIENT, *GENERATE, *EDIT, *FILES, DRY_RUN, QUIET, *REPORT)
def edit(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help='A file, a URL, or "-" for stdin.')],
    prompt: Prompt,
    **given: Any,
) -> None:
    """Change a picture: by an instruction or to a description, as the model takes it."""
    from .paint import edit

    edit(image, prompt, given)


_IMAGE = Flag("image", str, "The picture to edit.", "IMAGE")


@_command(
    *CLIENT,
    _IMAGE,
    *GENERATE,
    *EDIT,
    *(flag for flag in FILES if flag.name != "force"),
    QUIET,
    *REPORT,
)
def plan(prompt: Prompt, **given: Any) -> None:
    """Show what would be sent, why, and what it may cost. Sends nothing."""
    from .paint import plan

    plan(prompt, given["image"], given)


@_command(
    *CLIENT,
    *GENERATE,
    *(flag for flag in EDIT if flag.name in ("change", "mode", "preserve", "source_prompt")),
    Flag("image", str, "The picture to begin with.", "IMAGE"),
    Flag("output", str, "The folder for the pictures; default: this one.", "DIR", ("-o",)),
    FORCE,
    QUIET,
    *REPORT,
)
def chat(**given: Any) -> None:
    """Hold a conversation, line by line; a script may be piped in. /help lists what there is.

    Flags that are about editing apply from the first picture on.
    """
    from .chat import chat

    chat(given["image"], given["output"], given)


@_command(
    Flag("edit", list[str], "Then say this: one more row. Repeatable.", "TEXT"),
    Flag("base_url", list[str], "Another server for a provider's models.", "PROVIDER=URL"),
    *(flag for flag in CLIENT if flag.name in ("timeout", "max_retries", "budget")),
    *(flag for flag in GENERATE if flag.name not in ("n", "format")),
    Flag("output", str, "The sheet: png, jpeg or webp.", "FILE", ("-o",)),
    Flag("keep", str, "A folder for the pictures themselves.", "DIR"),
    FORCE,
    QUIET,
    *REPORT,
)
def compare(
    prompt: Prompt,
    models: Annotated[str, typer.Option(metavar="REF,REF", help="The models, commas between.")],
    **given: Any,
) -> None:
    """Ask several models the same, and put what they paint on one contact sheet."""
    from .compare import compare

    if code := compare(prompt, given | {"models": models}):
        raise typer.Exit(code)


@_command(
    *CLIENT,
    Flag("image", str, "The picture that was edited, if pixels were protected.", "IMAGE"),
    *(flag for flag in EDIT if flag.name in ("mask", "preserve")),
    *(flag for flag in FILES if flag.name in ("output", "force")),
    QUIET,
    *REPORT,
)
def resume(
    handle: Annotated[str, typer.Argument(metavar="HANDLE", help="From an error or job.handle.")],
    **given: Any,
) -> None:
    """Fetch the pictures of a job that was submitted before. Submits nothing."""
    from .paint import resume

    resume(handle, given)


@_command(*REPORT)
def models(
    provider: Annotated[str | None, typer.Argument(help="One provider; default: all.")] = None,
    **given: Any,
) -> None:
    """List the known models: what they edit, their sizes, prices and last days."""
    from .facts import models

    models(provider, as_json=given["as_json"])


@_command(*REPORT)
def describe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="provider/model")], **given: Any
) -> None:
    """Show everything that is known of one model."""
    from .facts import describe

    describe(model, as_json=given["as_json"])


@_command(*REPORT)
def providers(**given: Any) -> None:
    """List the providers, and how to install those that are missing."""
    from .facts import providers

    providers(as_json=given["as_json"])


@_command(*REPORT)
def doctor(**given: Any) -> None:
    """Look at the installation, keys, addresses and retired models. Exits with 1 if broken."""
    from .doctor import doctor

    if not doctor(as_json=given["as_json"]):
        raise typer.Exit(1)
