"""Command line of the training: each command reads what earlier ones made from --inputs and writes to --outputs.

The whole run, in order (see the README for the seconds used):

    python -m training prepare      sprites from the emoji font, and the text tokenizer
    python -m training autoencoder  the diffusion model's latents
    python -m training tokenizer    the autoregressive model's visual tokens
    python -m training classifier   the judge that scores pictures
    python -m training flow         the diffusion model; again to go on
    python -m training ar           the autoregressive model; again to go on
    python -m training evaluate     500 held-back prompts and edits of them, for both models
    python -m training export       the two folders that ship, with their cards

On the folders that ship:

    python -m training unpack       the other way: their weights as files to go on from
    python -m training card         their cards anew, after a change of the grammar
    python -m training phrasings    draw what people might type, and have the judge look at it
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from training.run import Run

TRAINED = ("autoencoder", "tokenizer", "classifier", "flow", "ar")
COMMANDS = ("prepare", *TRAINED, "evaluate", "export", "unpack", "card", "phrasings")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("command", choices=COMMANDS)
    add("--inputs", type=Path, default=Path("build"), help="what earlier commands made")
    add("--outputs", type=Path, default=Path("build"), help="folder to write to")
    add("--seconds", type=float, default=300.0, help="length of this run")
    add("--steps", type=int, help="length of this run in steps instead")
    add("--every", type=float, default=1e9, help="seconds between saved weights and sample sheets")
    add("--decay", type=float, default=0.0, help="last share in which the learning rate falls to 0")
    add("--batch", type=int, help="pictures per step")
    add("--seed", type=int, default=7)
    add("--workers", type=int, default=4, help="processes that write captions")
    add("--state", type=Path, help="folder for the full state, to go on from on the same machine")
    add("--no-compile", dest="compile", action="store_false", help="do not use torch.compile")
    options = parser.parse_args()
    module = importlib.import_module(f"training.{options.command}")
    command = module.train if options.command in TRAINED else module.main
    command(Run.of(options))


if __name__ == "__main__":
    main()
