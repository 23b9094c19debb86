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
    python -m training card         the cards alone, after a change of the grammar
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from training.run import Run

COMMANDS = ("prepare", "autoencoder", "tokenizer", "classifier", "flow", "ar", "evaluate", "export", "card")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--inputs", type=Path, default=Path("build"), help="folder with what earlier commands made")
    parser.add_argument("--outputs", type=Path, default=Path("build"), help="folder to write to")
    parser.add_argument("--seconds", type=float, default=300.0, help="length of this run")
    parser.add_argument("--steps", type=int, help="length of this run in steps instead")
    parser.add_argument("--every", type=float, default=1e9, help="seconds between saved weights and sample sheets")
    parser.add_argument("--decay", type=float, default=0.0, help="last share of this run in which the learning rate falls to zero")
    parser.add_argument("--batch", type=int, help="pictures per step")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=4, help="processes that write captions")
    parser.add_argument("--state", type=Path, help="folder for the full training state, to go on from on the same machine")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="do not use torch.compile")
    options = parser.parse_args()
    if options.command == "prepare":
        from training import glyphs, words

        glyphs.save(options.outputs / "sprites.npz")
        words.train(options.outputs / "words.json")
        return
    if options.command == "card":
        from training import card

        card.main()
        return
    module = importlib.import_module(f"training.{options.command}")
    getattr(module, "train" if hasattr(module, "train") else "main")(Run.of(options))


if __name__ == "__main__":
    main()
