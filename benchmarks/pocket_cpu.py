"""diffusers/pocket on the CPU beside the stock FluxPipeline, same weights, in one run.

    python benchmarks/pocket_cpu.py                  # five pictures each, all cores
    python benchmarks/pocket_cpu.py --threads 1
    python benchmarks/pocket_cpu.py --write          # keep the table in benchmarks/results/

Both draw 16 steps with guidance 3 and decode. Calls alternate, and CPU seconds (all threads) are given
beside wall seconds, as other work on the machine stretches those.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import diptych_pocket
import numpy as np
import torch
from diffusers import FluxPipeline

from diptych import ImageClient

REF = "diffusers/pocket"
PROMPT = "a watercolor of a fox reading a book"
COLD = (
    f"from diptych import ImageClient; ImageClient({REF!r}, device='cpu')"
    f".generate({PROMPT!r}, seed=7).image.save(__import__('sys').argv[1])"
)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def theirs() -> Callable[[], Any]:
    """One picture by the stock pipeline, as the model's card says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = FluxPipeline.from_pretrained(
            diptych_pocket.diffusion(), dtype=torch.float32, use_safetensors=True
        )
    pipe.set_progress_bar_config(disable=True)

    def draw() -> Any:
        return pipe(
            PROMPT,
            negative_prompt="",
            true_cfg_scale=3.0,
            num_inference_steps=16,
            height=128,
            width=128,
            max_sequence_length=48,
            generator=torch.Generator().manual_seed(7),
        ).images[0]

    return draw


def compared(pictures: int) -> tuple[list[str], float]:
    """The table's lines, and our CPU seconds a picture over those of the stock pipeline."""
    rival = theirs()
    times: dict[str, list[tuple[float, float]]] = {"stock FluxPipeline": [], "diptych": []}
    with ImageClient(REF, device="cpu") as client:

        def ours() -> Any:
            return client.generate(PROMPT, seed=7).image

        levels = np.abs(ours().numpy().astype(int) - np.asarray(rival()).astype(int))
        for _ in range(pictures):
            times["stock FluxPipeline"].append(timed(rival))
            times["diptych"].append(timed(ours))
    lines = ["| | s a picture | CPU s a picture |", "|---|---|---|"]
    cpu = {}
    for name, each in times.items():
        wall, cpu[name] = (statistics.median(column) for column in zip(*each, strict=True))
        lines.append(f"| {name} | {wall:.2f} | {cpu[name]:.2f} |")
    lines += ["", f"The pictures differ by at most {levels.max()} of 255."]
    return lines, cpu["diptych"] / cpu["stock FluxPipeline"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    lines, ratio = compared(args.pictures)
    lines.append(f"CPU time, diptych over stock: {ratio:.2f}.")
    place = Path(__file__).parent / "results"
    picture = place / "cold.png"
    cold, _ = timed(lambda: subprocess.run([sys.executable, "-c", COLD, str(picture)], check=True))
    picture.unlink()
    lines.append(f"From a new process to a saved picture: {cold:.1f} s.")
    facts = f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    text = "\n".join(["# diffusers/pocket on a CPU", "", facts, "", *lines, ""])
    print(text)
    if args.write:
        (place / "pocket_cpu.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
