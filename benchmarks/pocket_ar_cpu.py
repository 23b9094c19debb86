"""autoregressive/pocket on the CPU beside transformers' generate(), same weights, in one run.

    python benchmarks/pocket_ar_cpu.py               # three pictures each, all cores
    python benchmarks/pocket_ar_cpu.py --threads 1
    python benchmarks/pocket_ar_cpu.py --seeds 100   # also: are all tokens those of the sequential loop
    python benchmarks/pocket_ar_cpu.py --write       # keep the table in benchmarks/results/

Both draw 256 codes with guidance, temperature and top-k as the model's card says. Calls alternate, and
CPU seconds (all threads) are given beside wall seconds, as other work on the machine stretches those.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import diptych_pocket
import torch
from transformers import AutoTokenizer, Emu3ForConditionalGeneration

from diptych import ImageClient

REF = "autoregressive/pocket"
PROMPT = "a watercolor of a fox reading a book"
TOKENS = 256
COLD = f"from diptych import ImageClient; ImageClient({REF!r}).generate({PROMPT!r}, seed=7)"


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def theirs() -> Callable[[], Any]:
    """One picture by transformers: two forwards a token, its prefix function for the grammar."""
    folder = diptych_pocket.autoregressive()
    said = json.loads((folder / "diptych.json").read_text(encoding="utf-8"))
    ids, defaults = said["tokens"], said["defaults"]
    words = AutoTokenizer.from_pretrained(folder)
    model = Emu3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    opening = [ids["boi"], *ids["area"], ids["image_wrapper"]]
    text = words(PROMPT, add_special_tokens=False).input_ids
    prompt = torch.tensor([[ids["bos"], *text, *opening]])
    empty = torch.tensor([[ids["bos"], *opening]])
    codes = torch.arange(ids["first_visual"], ids["first_visual"] + ids["visual"])
    fixed = {16 * 17: ids["eof"], 16 * 17 + 1: ids["eoi"], 16 * 17 + 2: ids["eos"]}

    def allowed(_: int, sequence: torch.Tensor) -> torch.Tensor:
        at = len(sequence) - prompt.shape[1]
        if at in fixed:
            return torch.tensor([fixed[at]])
        return torch.tensor([ids["eol"]]) if at % 17 == 16 else codes

    def draw() -> Any:
        with torch.inference_mode():
            sequence = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                negative_prompt_ids=empty,
                negative_prompt_attention_mask=torch.ones_like(empty),
                guidance_scale=defaults["guidance_scale"],
                temperature=defaults["temperature"],
                top_k=defaults["top_k"],
                do_sample=True,
                max_new_tokens=16 * 17 + 3,
                prefix_allowed_tokens_fn=allowed,
            )
            tokens = sequence[:, prompt.shape[1] :]
            return model.decode_image_tokens(image_tokens=tokens, height=16, width=16)

    return draw


def compared(pictures: int) -> tuple[list[str], float]:
    """The table's lines, and how many times faster a token is, in CPU seconds."""
    rival, figures = theirs(), {"transformers generate()": [], "diptych": []}  # type: ignore[var-annotated]
    with ImageClient(REF, device="cpu") as client:

        def ours() -> None:
            client.generate(PROMPT, seed=7)

        ours()
        for _ in range(pictures):
            figures["transformers generate()"].append(timed(rival))
            figures["diptych"].append(timed(ours))
    lines = ["| | s a picture | CPU s a picture | CPU ms a token |", "|---|---|---|---|"]
    cpu = {}
    for name, times in figures.items():
        wall = statistics.median(each[0] for each in times)
        cpu[name] = statistics.median(each[1] for each in times)
        row = f"| {name} | {wall:.2f} | {cpu[name]:.2f} | {cpu[name] / TOKENS * 1000:.2f} |"
        lines.append(row)
    return lines, cpu["transformers generate()"] / cpu["diptych"]


def same_tokens(seeds: int) -> tuple[int, float]:
    """How many of `seeds` pictures equal those of the sequential loop, and tokens per pass."""
    equal = tokens = passes = 0
    batch = 20
    with (
        ImageClient(REF, device="cpu", timeout=3600) as exact,
        ImageClient(REF, device="cpu", speed="fast", timeout=3600) as sequential,
    ):
        for first in range(0, seeds, batch):
            n = min(batch, seeds - first)
            one = exact.generate(PROMPT, seed=1000 + first, n=n)
            other = sequential.generate(PROMPT, seed=1000 + first, n=n)
            equal += sum(a.bytes == b.bytes for a, b in zip(one, other, strict=True))
            tokens += one.usage.tokens or 0 if one.usage else 0
            passes += one.usage.steps or 0 if one.usage else 0
    return equal, tokens / passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    lines, ratio = compared(args.pictures)
    lines += ["", f"A token takes {ratio:.1f} times less CPU than in generate()."]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    cold, _ = timed(lambda: subprocess.run([sys.executable, "-c", COLD], check=True))
    busy = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    lines.append(f"From a new process to a picture: {cold:.1f} s, {busy:.1f} of them CPU.")
    if args.seeds:
        equal, saved = same_tokens(args.seeds)
        lines.append(
            f"{equal} of {args.seeds} seeds give the pictures of the sequential loop, with {saved:.1f} "
            "tokens a pass."
        )
    facts = f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    text = "\n".join(["# autoregressive/pocket on a CPU", "", facts, "", *lines, ""])
    print(text)
    if args.write:
        (Path(__file__).parent / "results" / "pocket_ar_cpu.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
