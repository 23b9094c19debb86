"""FLUX.1-dev through the diffusers engine beside the stock pipeline, in one run on one GPU.

    python benchmarks/diffusers_flux.py           # 1024x1024, 28 steps, guidance 3.5, T5 at 512 tokens
    python benchmarks/diffusers_flux.py --write   # keep the table in benchmarks/results/
    python benchmarks/diffusers_flux.py --tiny    # small shapes, on the CPU as well: does it run

The model has the shapes of FLUX.1-dev and random weights, which cost the same time and draw noise:
nothing here says anything about quality. Every picture has a prompt of its own, so that the text
encoders always run, and is timed to its last byte: a picture in memory for the stock pipeline, a PNG
for diptych. The stock pipeline is `FluxPipeline` over the same weights in bfloat16, called with its
defaults, as `DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16).to("cuda")` is.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import math
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from diptych_diffusers.cards import describe
from diptych_diffusers.engine import Engine
from diptych_diffusers.flux import Flux
from diptych_diffusers.job import Job
from diptych_diffusers.native import Ask
from diptych_diffusers.skipping import computed
from diptych_diffusers.speed import Pace, blocks
from figures import Figures
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from diptych import Image
from diptych.local import tensors
from diptych.local.checkpoints import Checkpoint

STEP = {1024: 74.4, 512: 21.5}
"""TFLOP of one pass at a side in pixels: products of matrices, and attention."""

ONCE = 15.3
"""TFLOP of T5 over 512 tokens and of the VAE's decoder at 1024x1024."""

MIXED = ((28, 3.5), (24, 2.0), (20, 5.0), (28, 1.5), (16, 3.5), (28, 7.0), (24, 4.0), (20, 3.0))
"""Steps and guidance of the requests that are in flight together."""

_NUMBER = itertools.count()


def tokenizer(limit: int, size: int, ends: str, special: Sequence[str]) -> Any:
    """Every word is some token: a vocabulary of the right size, and the ends that the encoder expects."""
    letters = [chr(code) for code in range(33, 127)]
    names = [*special, *letters, *(f"<{at}>" for at in range(size - len(special) - len(letters)))]
    core = Tokenizer(
        models.WordLevel({name: at for at, name in enumerate(names)}, unk_token=letters[0])
    )
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.post_processor = processors.TemplateProcessing(
        single=ends, special_tokens=[(each, names.index(each)) for each in special]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=limit, pad_token=special[-1], eos_token=special[-1]
    )


class Bench(Figures):
    """The model, and the rows of the table."""

    def __init__(self, tiny: bool, repeats: int) -> None:
        super().__init__(digits=3)
        self.tiny, self.repeats = tiny, repeats
        self.side, self.steps = (256, 4) if tiny else (1024, 28)
        self.keep: Path | None = None
        self.parts = self._parts()
        self.described = self._described()

    def _parts(self) -> dict[str, Any]:
        small = self.tiny
        torch.set_default_dtype(self.dtype)
        with self.device:
            transformer = FluxTransformer2DModel(
                guidance_embeds=True,
                **(
                    {
                        "num_layers": 1,
                        "num_single_layers": 2,
                        "attention_head_dim": 16,
                        "num_attention_heads": 4,
                        "joint_attention_dim": 32,
                        "pooled_projection_dim": 32,
                        "axes_dims_rope": (4, 6, 6),
                    }
                    if small
                    else {}
                ),
            )
            t5 = T5EncoderModel(
                T5Config(
                    vocab_size=32128,
                    d_model=32 if small else 4096,
                    d_ff=64 if small else 10240,
                    d_kv=16 if small else 64,
                    num_layers=1 if small else 24,
                    num_heads=2 if small else 64,
                    feed_forward_proj="gated-gelu",
                )
            )
            clip = CLIPTextModel(
                CLIPTextConfig(
                    hidden_size=32 if small else 768,
                    intermediate_size=64 if small else 3072,
                    num_hidden_layers=1 if small else 12,
                    num_attention_heads=2 if small else 12,
                    projection_dim=32 if small else 768,
                    eos_token_id=1,
                )
            )
            vae = AutoencoderKL(
                block_out_channels=(32, 32, 32, 32) if small else (128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=1 if small else 2,
                latent_channels=16,
                scaling_factor=0.3611,
                shift_factor=0.1159,
                use_quant_conv=False,
                use_post_quant_conv=False,
            )
        torch.set_default_dtype(torch.float32)
        modules = {
            "text_encoder": clip,
            "text_encoder_2": t5,
            "transformer": transformer,
            "vae": vae,
        }
        for module in modules.values():
            module.to(self.device).eval().requires_grad_(False)
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.02)
        return modules | {
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            "tokenizer": tokenizer(77, 49408, "<s> $A </s>", ["<s>", "</s>"]),
            "tokenizer_2": tokenizer(512, 32100, "$A </s>", ["</s>"]),
        }

    def _described(self) -> Any:
        """What the engine knows of the model: its settings, as they lie in a folder."""
        folder = Path(tempfile.mkdtemp(prefix="flux-"))
        self.pipeline().save_config(folder)
        for name in ("transformer", "vae", "scheduler"):
            self.parts[name].save_config(folder / name)
        for name in ("text_encoder", "text_encoder_2"):
            self.parts[name].config.save_pretrained(folder / name)
        for name in ("tokenizer", "tokenizer_2"):
            self.parts[name].save_pretrained(folder / name)
        return describe(Checkpoint("flux", "folder", folder))

    def pipeline(self) -> Any:
        made = FluxPipeline(**self.parts)
        made.set_progress_bar_config(disable=True)
        return made

    def plain(self) -> Flux:
        """The model over the same parts, nothing compiled or captured."""
        transformer = self.parts["transformer"]
        vars(transformer).pop("forward", None)
        for block in blocks(transformer):
            block._compiled_call_impl = None
        torch._dynamo.reset()
        return Flux(self.parts, self.device, self.dtype)

    def engine(self, speed: str) -> Engine:
        """The engine over the same parts, as if they had just been loaded."""
        model = self.plain()
        pace = Pace(self.parts["transformer"], speed, self.device)
        return Engine(model, self.described, limit=None, pace=pace)

    def median(self, function: Callable[[], object], warm: int = 2) -> float:
        for _ in range(warm):
            function()
        return statistics.median(self.seconds(function) for _ in range(self.repeats))

    def note(self, what: str, figure: float, unit: str, bar: str = "") -> None:
        super().note(what, figure, unit, bar)
        if self.keep is not None:
            self.keep.write_text(json.dumps(self.figures, indent=1))


def prompt() -> str:
    """One that nobody has read before, long enough to fill T5's 512 tokens."""
    return (f"picture number {next(_NUMBER)}, " + "a fox in the snow, reading a book; " * 20)[:511]


def job(bench: Bench, **changes: Any) -> Job:
    asked: dict[str, Any] = {
        "task": "generate",
        "prompt": prompt(),
        "seeds": (7,),
        "size": (bench.side, bench.side),
        "steps": bench.steps,
        "guidance": 3.5,
    }
    return Job(**(asked | changes))


def draw(engine: Engine, asked: Job) -> Any:
    """The outcome of a job, alone on the device."""
    *_, outcome = engine.run(asked, streaming=False)
    return outcome


def together(engine: Engine, jobs: Sequence[Job]) -> None:
    """Several jobs in turn, step by step, as the thread of the device runs them."""
    running = [engine.run(each, streaming=False) for each in jobs]
    while running:
        running = [each for each in running if next(each, None) is not None or _goes_on(each)]


def _goes_on(steps: Any) -> bool:
    return getattr(steps, "gi_frame", None) is not None


def velocity(bench: Bench, model: Flux) -> torch.Tensor:
    """What one pass of the transformer gives for fixed inputs."""
    size = (bench.side, bench.side)
    latents = model.noise(size, torch.Generator().manual_seed(3))
    ask = Ask(latents, 0.7, model.encode("a fox in the snow", 512), model.grid(size), 3.5)
    return model.velocities([ask])[0]


def stock_picture(bench: Bench) -> tuple[str, Any]:
    """A prompt, and the stock pipeline's picture of it from the noise of seed 7."""
    model, text = Flux(bench.parts, bench.device, bench.dtype), prompt()
    noise = model.noise((bench.side, bench.side), torch.Generator().manual_seed(7))[None]
    picture = bench.pipeline()(
        text,
        height=bench.side,
        width=bench.side,
        num_inference_steps=bench.steps,
        guidance_scale=3.5,
        latents=noise.to(bench.dtype),
        output_type="np",
    ).images[0]
    return text, picture


def note_apart(bench: Bench, ours: Image, theirs: Any, how: str) -> None:
    """How far the engine's picture is from that of the stock pipeline, which began with the same noise."""
    error = float(((theirs - ours.numpy() / 255) ** 2).mean())
    bench.note(f"exact, {how}, beside stock, PSNR", -10 * math.log10(error + 1e-12), "dB")


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def stock(bench: Bench) -> float:
    pipeline = bench.pipeline()

    def call(text: str = "", seed: int = 7) -> Any:
        return pipeline(
            text or prompt(),
            height=bench.side,
            width=bench.side,
            num_inference_steps=bench.steps,
            guidance_scale=3.5,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]

    bench.note("stock, first picture", bench.seconds(call), "s")
    taken = bench.median(call, warm=1)
    bench.note("stock", taken, "s")
    bench.peak("stock")
    return taken


def pictures(
    bench: Bench, engine: Engine, speed: str, target: str, text: str = ""
) -> tuple[float, Image]:
    """Seconds of the first picture, of the one that compiles, and of later ones, which are returned
    with the first picture, of `text`."""
    drawn: list[Image] = []

    def one(text: str = "") -> None:
        drawn.append(draw(engine, job(bench, prompt=text or prompt())).images[0])

    bench.note(f"{speed}, first picture, not compiled", bench.seconds(lambda: one(text)), "s")
    bench.note(f"{speed}, second picture, compiling", bench.seconds(one), "s")
    taken = bench.median(one, warm=1)
    bench.note(speed, taken, "s", target)
    return taken, drawn[0]


def exact(bench: Bench, naive: float) -> Engine:
    plain, (text, theirs) = velocity(bench, bench.plain()), stock_picture(bench)
    fresh = bench.engine("exact")
    taken, first = pictures(bench, fresh, "exact", "target 4.0 on an H200", text)
    note_apart(bench, first, theirs, "not compiled")
    note_apart(bench, draw(fresh, job(bench, prompt=text)).images[0], theirs, "compiled")
    far = apart(velocity(bench, fresh.model), plain)  # type: ignore[arg-type]
    bench.note("exact, one pass, relative difference from the stock transformer", far, "")
    bench.note("exact over stock", taken / naive, "x", "<= 0.62")
    again = job(bench)
    draw(fresh, again)
    bench.note(
        "exact, prompt read before", statistics.median(bench.seconds(lambda: draw(fresh, again)) for _ in range(3)), "s"
    )  # fmt: skip
    bench.peak("exact")
    shares(bench, fresh)
    return fresh


def shares(bench: Bench, engine: Engine) -> None:
    """What one picture's time goes to beside the passes of the transformer."""
    model, size = engine.model, (bench.side, bench.side)
    bench.note("text encoders", bench.median(lambda: model.encode(prompt(), 512)), "s")
    latents = model.noise(size, torch.Generator().manual_seed(1))
    bench.note("VAE decoder", bench.median(lambda: model.picture(latents, size)), "s")
    picture = model.picture(latents, size)
    bench.note("PNG", bench.median(lambda: tensors.to_image(picture)), "s")


def flight(bench: Bench, engine: Engine) -> None:
    """Eight mixed requests at once, and batches of small pictures."""
    alone = bench.figures["exact"] / bench.steps
    mixed = MIXED[:3] if bench.tiny else MIXED
    steps = [4 if bench.tiny else each for each, _ in mixed]
    jobs = [
        job(bench, steps=each, guidance=guidance, seeds=(seed,))
        for seed, (each, (_, guidance)) in enumerate(zip(steps, mixed, strict=True))
    ]
    taken = bench.seconds(lambda: together(engine, jobs))
    bench.note(f"exact, {len(jobs)} mixed requests in flight", taken, "s")
    bench.note("the same, one after another (from the time of one)", alone * sum(steps), "s")
    bench.peak("exact, mixed requests in flight")
    side = 256 if bench.tiny else 512
    rates: dict[int, float] = {}
    for count in (1, 4, 8):
        seeds = tuple(range(count))

        def batch(steps: int, seeds: tuple[int, ...] = seeds) -> None:
            draw(engine, job(bench, seeds=seeds, size=(side, side), steps=steps))

        engine.batch.limit = count
        batch(2)
        batch(3)
        taken = statistics.median(bench.seconds(partial(batch, bench.steps)) for _ in range(2))
        rates[count] = count / taken
        bench.note(f"exact, {side} px, batch of {count}", rates[count], "pictures/s")
    bench.note(f"exact, {side} px, batch of 8 over 1", rates[8] / rates[1], "x")
    bench.peak(f"exact, {side} px, batch of 8")


def eight(bench: Bench, naive: float) -> None:
    plain = velocity(bench, bench.plain())
    engine = bench.engine("fast")
    taken, _ = pictures(bench, engine, "fast", "target 2.9 on an H200")
    bench.note("fast over stock", taken / naive, "x", "<= 0.45")
    far = apart(velocity(bench, engine.model), plain)  # type: ignore[arg-type]
    bench.note("fast, one pass, relative difference from bfloat16", far, "")
    bench.peak("fast")
    shares(bench, engine)
    engine.pace.speed = "turbo"
    taken = bench.median(lambda: draw(engine, job(bench)), warm=1)
    runs = computed(bench.steps)
    print("turbo computes steps", [at for at, run in enumerate(runs, 1) if run], flush=True)
    bench.note("turbo", taken, "s")
    bench.note("turbo over stock", taken / naive, "x", "<= 0.30")
    bench.note(f"turbo, steps computed of {bench.steps}", sum(runs), "")


def floor(bench: Bench) -> None:
    if bench.tiny:
        return
    a = torch.randn(8192, 8192, device=bench.device, dtype=bench.dtype)
    rate = 2 * 8192**3 / bench.median(lambda: a @ a, warm=5) / 1e12
    bench.note("product of 8192x8192 matrices, bfloat16", rate, "TFLOP/s")
    work = STEP[1024] * bench.steps + ONCE
    bench.note(f"floor by arithmetic, bfloat16: {work:.0f} TFLOP at that rate", work / rate, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--skip", nargs="*", default=[], choices=["exact", "flight", "fast"])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to keep the figures as JSON")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    began = time.perf_counter()
    bench = Bench(options.tiny, options.repeats)
    bench.keep = options.json
    print(f"built in {time.perf_counter() - began:.0f} s", flush=True)
    floor(bench)
    naive = stock(bench)
    if "exact" not in options.skip:
        engine = exact(bench, naive)
        if "flight" not in options.skip:
            flight(bench, engine)
        del engine
        gc.collect()
    if "fast" not in options.skip:
        eight(bench, naive)
    where = torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.machine()
    lines = ["| what | figure | bar |", "|---|---|---|"]
    lines += [f"| {what} | {figure} | {bar} |" for what, figure, bar in bench.rows]
    header = f"{date.today()}, {where}, torch {torch.__version__}, {bench.repeats} repeats"
    text = f"{header}, `python benchmarks/diffusers_flux.py`\n\n" + "\n".join(lines)
    print(f"{text}\n{time.perf_counter() - began:.0f} s in all")
    if options.write:
        target = Path(__file__).parent / "results" / "diffusers_flux.md"
        target.write_text(f"# diffusers_flux.py\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
