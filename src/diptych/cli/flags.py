"""The flags of the commands, as a table: a command names the groups that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

__all__ = ["CLIENT", "EDIT", "FILES", "GENERATE", "REPORT", "Flag", "takes"]

F = TypeVar("F", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `name` is what the command gets it as, and the option of the library it sets."""

    name: str
    kind: Any
    help: str
    metavar: str | None = None
    also: tuple[str, ...] = ()
    spelled: str | None = None

    def parameter(self) -> inspect.Parameter:
        """The flag as a keyword parameter; None (False for a switch) when it is not given."""
        long = self.spelled or f"--{self.name.replace('_', '-')}"
        info = typer.Option(*self.also, long, metavar=self.metavar, help=self.help)
        switch = self.kind is bool
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if switch else None,
            annotation=Annotated[bool if switch else self.kind | None, info],
        )


MODEL = Flag(
    "model", str, "provider/model; default: DIPTYCH_MODEL, else a pocket model.", "REF", ("-m",)
)

CLIENT = (
    MODEL,
    Flag("timeout", float, "Deadline of the whole call; default 300.", "SECONDS"),
    Flag("max_retries", int, "Repeats of what was certainly not accepted; default 2.", "N"),
    Flag("budget", str, "Refuse what may cost more than this, in USD.", "AMOUNT"),
    Flag("base_url", str, "Another server that speaks the provider's wire format.", "URL"),
    Flag("setting", list[str], "A setting of the provider. Repeatable.", "NAME=VALUE"),
)

GENERATE = (
    Flag("n", int, "Pictures to make, 1 to 64.", "N"),
    Flag("size", str, '"1024x768", "1MP", "1K", "2K", "4K" or "auto".', "SIZE"),
    Flag("aspect", str, 'Width over height, such as "16:9".', "RATIO"),
    Flag("seed", int, "Picture k is made with seed + k.", "N"),
    Flag("negative_prompt", str, "What to keep out.", "TEXT"),
    Flag("guidance", float, "Guidance scale, in the model's own units.", "SCALE"),
    Flag("steps", int, "Denoising steps.", "N"),
    Flag("quality", str, "The model's own quality level.", "LEVEL"),
    Flag("background", str, "transparent, opaque or auto.", "KIND"),
    Flag("format", str, "png, jpeg, webp, gif or svg.", "FORMAT"),
    Flag("reference", list[str], "A picture to draw from. Repeatable.", "IMAGE[:WEIGHT]"),
    Flag("lora", list[str], "A low-rank adapter. Repeatable.", "PATH[:SCALE]"),
    Flag(
        "control",
        list[str],
        "A control image of kind canny, depth, pose, tile, blur, gray or low_quality. Repeatable.",
        "KIND=IMAGE[:STRENGTH]",
    ),
    Flag(
        "extra",
        list[str],
        "The provider's own parameter; the value is JSON, else a text. Repeatable.",
        "NAME=VALUE",
    ),
)

EDIT = (
    Flag("mask", str, "Where to change the picture: white = change.", "IMAGE"),
    Flag("change", float, "How far to depart from it: 0 keeps it, 1 ignores it.", "0..1"),
    Flag("mode", str, "auto, or an edit mode that the model has.", "MODE"),
    Flag("preserve", str, "Outside the change: exact keeps the original, model does not.", "HOW"),
    Flag("expand", str, "Pixels to add at all borders, or at each.", "N|L,T,R,B"),
    Flag("source_prompt", str, "What the picture shows now.", "TEXT"),
)

PREVIEWS = (
    Flag("previews", int, "Unfinished pictures to save; providers may bill each.", "N"),
    Flag("preview_dir", str, "The folder that --previews go to.", "DIR"),
)

FORCE = Flag("force", bool, "Overwrite files.", also=("-f",))

FILES = (
    Flag(
        "output",
        str,
        'File or folder; "-" is stdout. Default: a new name made from the prompt.',
        "FILE",
        ("-o",),
    ),
    FORCE,
    *PREVIEWS,
)

JSON = Flag("as_json", bool, "One JSON document on stdout, errors too.", spelled="--json")
TRACEBACK = Flag("traceback", bool, "Show where in the code an error arose.")
QUIET = Flag("quiet", bool, "Nothing on stderr but errors.", also=("-q",))
DRY_RUN = Flag("dry_run", bool, "Show the plan; send nothing.")

REPORT = (JSON, TRACEBACK)


def takes(*flags: Flag) -> Callable[[F], F]:
    """Give a command that is written with `**given` these flags."""

    def give(command: F) -> F:
        own = inspect.signature(command, eval_str=True).parameters.values()
        named = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [flag.parameter() for flag in flags]
        command.__signature__ = inspect.Signature([*named, *added])  # type: ignore[attr-defined]  # functions have it
        return command

    return give
