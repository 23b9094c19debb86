"""The command `diptych`.

    diptych generate "a watercolor of a fox reading a book" -m openai/gpt-image-2
    diptych edit fox.png "make it a raccoon" -o raccoon.png

`diptych --help` loads typer and nothing else: a command imports what it needs when it runs.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line on `arguments` (default: those of the process) and exit."""
    from .app import run

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
