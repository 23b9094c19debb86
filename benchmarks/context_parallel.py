"""FLUX.1-dev on one card and on two, in one run: passes divided by tokens (`parallel=2`).

    python benchmarks/context_parallel.py           # two GPUs; under 8 minutes on H100s
    python benchmarks/context_parallel.py --write   # keep the table in benchmarks/results/
    python benchmarks/context_parallel.py --tiny    # small shapes, on the CPU as well: does it run

The model is that of `diffusers_flux.py`: true shapes, random weights, so nothing here says anything
about quality. A picture is timed from its prompt, which nobody has read before, to its PNG; medians
after warm-up (compiling, capturing). Latents are compared for one seed and prompt after all steps:
rounding in another order, which random weights neither damp nor correct. What a card holds is asked of
the driver after the pictures: weights, scratch memory and everything that the allocator keeps.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import json
import logging
import platform
import statistics
import time
import traceback
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers_flux import Bench, draw, job
from diptych_diffusers.engine import Engine
from diptych_diffusers.flux import Flux
from diptych_diffusers.partners import Partners
from diptych_diffusers.speed import Pace

from diptych.errors import Unavailable

SHAPES = ((1024, 28), (2048, 10))
TINY = ((128, 4), (256, 3))
"""Side in pixels, and steps."""

PROMPT = "a fox in the snow, reading a book"


class Run:
    """The rows that were measured so far. `until` is when no further one is begun."""

    def __init__(self, bench: Bench, until: float) -> None:
        self.bench = bench
        self.until = until
        self.partners: Partners | None = None
        self.config = dict(bench.parts["transformer"].config)
        self.figures: dict[str, dict[str, float]] = {}
        self.latents: dict[tuple[str, int, int], torch.Tensor] = {}

    def transformer(self) -> Any:
        """The same random weights every time."""
        bench = self.bench
        torch.manual_seed(1)
        torch.set_default_dtype(bench.dtype)
        try:
            with bench.device:
                made = FluxTransformer2DModel.from_config(self.config)
        finally:
            torch.set_default_dtype(torch.float32)
        made.to(bench.device).eval().requires_grad_(False)
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02)
        return made

    def clear(self) -> None:
        """Forget the model before: its weights, its graphs and its compiled blocks."""
        torch._dynamo.reset()
        gc.collect()
        if self.bench.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def engine(self, speed: str, cards: int) -> Iterator[Engine]:
        """An engine over new weights, with `cards` - 1 partners."""
        bench, partners = self.bench, None
        bench.parts["transformer"] = None
        self.clear()
        bench.parts["transformer"] = transformer = self.transformer()
        device = "cuda:0" if bench.device.type == "cuda" else "cpu"
        try:
            if cards > 1:
                partners = self.partners = Partners(device, cards)
                partners.share(transformer, speed, 0)
            pace = Pace(transformer, speed, torch.device(device))
            if partners is not None:
                partners.lead(transformer, pace)
            model = Flux(bench.parts, torch.device(device), bench.dtype)
            yield Engine(model, bench.described, limit=1, pace=pace)
            if partners is not None:
                partners.check()
        finally:
            if partners is not None:
                partners.close()
            bench.parts["transformer"] = None

    def row(self, engine: Engine, speed: str, cards: int, side: int, steps: int) -> None:
        """Measure one shape."""
        bench, size = self.bench, {"size": (side, side)}
        for few in (2, 3):  # the first picture; then compiling, capturing, replaying
            draw(engine, job(bench, steps=few, **size))
        taken = [
            bench.seconds(lambda: draw(engine, job(bench, steps=steps, **size)))
            for _ in range(bench.repeats)
        ]
        kept: list[torch.Tensor] = []
        model: Any = engine.model
        decode = model.picture

        def picture(latents: torch.Tensor, whole: tuple[int, int]) -> torch.Tensor:
            kept.append(latents.float().cpu())
            decoded: torch.Tensor = decode(latents, whole)
            return decoded

        model.picture = picture
        draw(engine, job(bench, prompt=PROMPT, seeds=(7,), steps=steps, **size))
        model.picture = decode
        self.latents[speed, cards, side] = kept[-1]
        found = {"seconds": statistics.median(taken), "spread": max(taken) - min(taken)}
        alone = self.latents.get((speed, 1, side))
        if cards > 1 and alone is not None:
            before = self.figures[_name(speed, 1, side, steps)]["seconds"]
            found["faster"] = before / found["seconds"]
            found["difference"] = float((kept[-1] - alone).norm() / alone.norm())
        exact = self.latents.get(("exact", 1, side))
        if speed != "exact" and cards == 1 and exact is not None:
            found["from exact"] = float((kept[-1] - exact).norm() / exact.norm())
        if bench.device.type == "cuda":
            for card in range(cards):
                free, whole = torch.cuda.mem_get_info(card)
                found[f"GB on card {card}"] = (whole - free) / 1e9
        self.figures[_name(speed, cards, side, steps)] = found
        print(_name(speed, cards, side, steps), json.dumps(found), flush=True)

    def measure(self, speed: str, cards: int) -> None:
        """All shapes of one speed on so many cards; what fails is told and left out."""
        try:
            with self.engine(speed, cards) as engine:
                for side, steps in TINY if self.bench.tiny else SHAPES:
                    if time.monotonic() > self.until:
                        print(f"no time for {_name(speed, cards, side, steps)}", flush=True)
                        continue
                    self.row(engine, speed, cards, side, steps)
        except Exception:
            print(f"FAILED: {speed}, {cards} cards\n{traceback.format_exc()}", flush=True)

    def kill(self) -> None:
        """How long it takes until the end of a partner in the midst of a pass is an error."""
        side, _ = (TINY if self.bench.tiny else SHAPES)[0]
        with contextlib.suppress(Unavailable), self.engine("exact", 2) as engine:
            for few in (2, 3):
                draw(engine, job(self.bench, steps=few, size=(side, side)))
            drawing = engine.run(job(self.bench, steps=200, size=(side, side)), streaming=False)
            for _ in range(6):
                next(drawing)
            assert self.partners is not None
            self.partners._partners[0].process.kill()
            began = time.monotonic()
            try:
                for _ in drawing:
                    pass
                self.partners.check()
                print("FAILED: nobody missed the partner", flush=True)
            except Unavailable as error:
                print(f"partner killed: {time.monotonic() - began:.3f} s until {error}", flush=True)
        with self.engine("exact", 1) as engine:
            draw(engine, job(self.bench, steps=2, size=(side, side)))
            print("after that, one card draws as before", flush=True)

    def table(self) -> str:
        """The figures in Markdown."""
        names = sorted({name for row in self.figures.values() for name in row}, key=_order)
        lines = [f"| what | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
        for what, row in self.figures.items():
            cells = [f"{row[name]:.3g}" if name in row else "" for name in names]
            lines.append(f"| {what} | {' | '.join(cells)} |")
        return "\n".join(lines)


def _name(speed: str, cards: int, side: int, steps: int) -> str:
    return f"{speed}, parallel={cards}, {side}x{side}, {steps} steps"


def _order(name: str) -> tuple[int, str]:
    known = ("seconds", "spread", "faster", "difference", "from exact")
    return (known.index(name) if name in known else len(known), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--cards", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--speeds", nargs="*", default=["exact", "fast"])
    parser.add_argument("--seconds", type=float, default=420, help="no row is begun after these")
    parser.add_argument("--json", type=Path, help="where to keep the figures as JSON")
    parser.add_argument("--kill", action="store_true", help="then end a partner in a pass")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    began = time.monotonic()
    run = Run(Bench(options.tiny, options.repeats), began + options.seconds)
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    faulthandler.dump_traceback_later(
        options.seconds + 60, exit=True
    )  # cards that wait for each other
    for cards in (1, options.cards):
        for speed in options.speeds:
            run.measure(speed, cards)
            if options.json is not None:
                options.json.write_text(json.dumps(run.figures, indent=1))
    if options.kill:
        run.kill()
    faulthandler.cancel_dump_traceback_later()
    cuda = run.bench.device.type == "cuda"
    where = torch.cuda.get_device_name() if cuda else platform.machine()
    header = f"{date.today()}, {where}, torch {torch.__version__}, {options.repeats} repeats"
    text = f"{header}, `python benchmarks/context_parallel.py`\n\n{run.table()}"
    print(json.dumps(run.figures))
    print(f"{text}\n{time.monotonic() - began:.0f} s in all", flush=True)
    if options.write:
        target = Path(__file__).parent / "results" / "context_parallel.md"
        target.write_text(f"# context_parallel.py\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
