"""Where pictures go: names that overwrite nothing, and a way out when a disk is full."""

from __future__ import annotations

import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import get_args

from ..errors import InvalidInput
from ..image import Image
from ..request import Format
from ..sniff import SUFFIXES
from .terminal import mute, say

__all__ = ["Target", "keep", "slug", "target"]

_LONGEST = 40
_PROBE = bytes(64 * 1024)
_FORMATS = get_args(Format)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the pictures of one request go.

    `suffix` is "" when the picture's own format decides; `named` tells that the caller chose the
    name, so that a taken one is refused before anything is spent instead of being numbered.
    """

    folder: Path
    stem: str
    suffix: str = ""
    named: bool = False
    force: bool = False
    stdout: bool = False

    @property
    def format(self) -> str | None:
        """The format that the name asks for."""
        return SUFFIXES.get(self.suffix.lower())

    def path(self, index: int, total: int, suffix: str) -> Path:
        """The wanted path of picture `index` of `total`."""
        number = f"-{index + 1}" if total > 1 else ""
        return self.folder / f"{self.stem}{number}{suffix}"

    def check(self, n: int, format: str | None) -> None:
        """Raise `InvalidInput` for what would go wrong after the money is spent."""
        if self.stdout:
            if sys.stdout.isatty():
                raise InvalidInput(
                    "-o - writes picture bytes, and stdout is a terminal; redirect it"
                )
            if n > 1:
                raise InvalidInput("-o - writes one picture; leave out --n, or name a file")
            return
        if format is not None and self.format not in (None, format):
            raise InvalidInput(
                f"--format {format} does not fit the name {self.stem}{self.suffix}; "
                f"call it {self.stem}.{format}, or leave --format out"
            )
        check_folder(self.folder)
        if not self.named or self.force:
            return
        suffixes = [self.suffix or f".{format}"] if self.suffix or format else sorted(SUFFIXES)
        for index in range(n):
            for suffix in suffixes:
                path = self.path(index, n, suffix)
                if path.exists():
                    raise InvalidInput(
                        f"{str(path)!r} exists; choose another name, or overwrite it with --force"
                    )


def target(output: str | None, prompt: str, *, force: bool = False) -> Target:
    """What `-o` means: a file, a folder, stdout, or a name made from the prompt.

    Raises `InvalidInput` for a suffix of something that no model makes.
    """
    if output == "-":
        return Target(Path(), "stdout", stdout=True)
    if output is None:
        return Target(Path(), slug(prompt))
    path = Path(output).expanduser()
    if path.is_dir() or output.endswith(("/", "\\")):
        return Target(path, slug(prompt))
    if path.suffix and SUFFIXES.get(path.suffix.lower()) not in _FORMATS:
        raise InvalidInput(
            f"no model makes {path.suffix!r}; use a name with .{', .'.join(_FORMATS)}, or without a "
            "suffix"
        )
    return Target(path.parent, path.stem, path.suffix, named=True, force=force)


def slug(prompt: str) -> str:
    """A short file name made from a prompt: letters and digits of any script, and hyphens."""
    plain = unicodedata.normalize("NFKC", prompt).casefold()
    words = re.findall(r"[^\W_]+", re.sub(r"['\u2019]", "", plain))
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word[:_LONGEST]
        if len(longer) > _LONGEST:
            break
        name = longer
    return name or "picture"


def check_folder(folder: Path) -> None:
    """Raise `InvalidInput` unless a file can be written there now."""
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {str(folder)!r}; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(_PROBE)
            probe.flush()
    except OSError as error:
        raise InvalidInput(
            f"{str(folder.absolute())!r} cannot be written to ({error.strerror}); name another "
            "place with -o"
        ) from None


def keep(images: Sequence[Image], where: Target) -> list[Path]:
    """Save every picture, whatever it takes, and return where; stdout is no path.

    They are paid for: where the wanted place fails, the next best one is taken and told about.
    Raises `OSError` when no place is left.
    """
    if not where.stdout or not images:
        return [_keep(image, where, index, len(images)) for index, image in enumerate(images)]
    aside = Target(Path(), "picture")
    try:
        sys.stdout.buffer.write(images[0].bytes)
        sys.stdout.buffer.flush()
    except OSError as error:
        mute()
        kept = ", ".join(map(str, keep(images, aside)))
        raise OSError(f"stdout cannot be written to ({error.strerror}); saved: {kept}") from None
    return keep(images[1:], aside)


def _keep(image: Image, where: Target, index: int, total: int) -> Path:
    fits = where.format == image.format
    name = where.path(index, total, where.suffix if fits else f".{image.format}")
    if not fits and where.suffix:
        say(f"diptych: the picture is {image.format}, so its name does not end in {where.suffix}")
    failure: OSError | InvalidInput | None = None
    for folder in (name.parent, Path.cwd(), Path(tempfile.gettempdir())):
        force = where.force and folder == name.parent
        try:
            path = _write(image, folder / name.name, force=force)
        except (OSError, InvalidInput) as error:
            failure = failure or error
            continue
        if folder != name.parent:
            say(
                f"diptych: {str(name)!r} could not be written ({failure}); the picture is in {path}"
            )
        elif where.named and path != name:
            say(f"diptych: {str(name)!r} has appeared meanwhile; the picture is in {path}")
        return path
    raise OSError(f"the picture could not be saved anywhere: {failure}")


def _write(image: Image, path: Path, *, force: bool) -> Path:
    if force:
        return image.save(path)
    for free in _numbered(path):
        try:
            return image.save(free, overwrite=False)
        except InvalidInput:
            if not free.exists():  # refused for another reason than that somebody took the name
                raise
    raise AssertionError("the numbers ended")


def _numbered(path: Path) -> Iterator[Path]:
    """`path`, then the same with -2, -3, ...: those that are free at the moment."""
    for number in count(1):
        free = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if not free.exists():
            yield free
