"""Train the diffusion model: flow matching on packed latents, text encoders trained along; sample from it."""

from __future__ import annotations

import itertools
import json

import torch

from training import feed, models
from training.autoencoder import Latents
from training.optim import Training
from training.run import Clock, Log, Run, grid, load, save

STEPS, GUIDANCE, SHIFT = 16, 3.0, 1.5
PROMPTS = (
    "a watercolor of a fox reading a book", "a raccoon wearing a top hat in the snow", "pixel art of a dragon at night", "neon sign of a guitar",
    "a cat in space", "a pencil sketch of an owl wearing glasses", "blueprint of a rocket", "panda next to a palm tree on the beach",
    "a robot holding a balloon on a yellow background", "Generate a picture of an octopus.", "penguin, crown, sunset", "a castle under a rainbow in a meadow",
)  # fmt: skip


def train(run: Run) -> None:
    canvas, latents, model = run.canvas(), Latents(run), models.Flow().to(run.device).train()
    training = Training(
        model, lr=1.5e-3, seconds=run.seconds, steps=run.steps, decay=run.decay, average=0.999
    )
    done, size = run.restore("flow", model, training), run.batch or 512
    if run.compile:
        model.transformer.compile_repeated_blocks(dynamic=False)
    batches = run.feed(feed.captioned, size, offset=done)
    log, clock = Log("flow"), Clock(run.every)
    for batch in batches:
        if training.progress() >= 1:
            break
        data = latents.encode(canvas.draw(batch["scenes"]))
        noise = torch.randn_like(data)
        time = torch.randn(len(data), device=run.device).sigmoid()
        with run.autocast():
            loss = model(data, noise, time, run.send(batch["clip"]), run.send(batch["t5"]))
        training.step(loss)
        log(training.step_count + done, {"loss": loss})
        if clock.strikes():
            with training.averaged():
                _save(run, model, latents, training.step_count + done, size)
    batches.close()
    run.keep("flow", training, training.step_count + done)
    training.use_average()
    _save(run, model, latents, training.step_count + done, size)


def _save(run: Run, model: models.Flow, latents: Latents, steps: int, size: int) -> None:
    save(run.outputs, "flow", model)
    facts = {"steps": steps, "batch": size, "seed": run.seed}
    (run.outputs / "flow.json").write_text(json.dumps(facts))
    with torch.compiler.set_stance("force_eager"):
        pictures = latents.decode(sample(run, model, run.shown(PROMPTS, 4), seed=1))
    grid(pictures, 12).save(run.outputs / "flow.png")
    print("flow saved", facts, flush=True)


def restored(run: Run) -> models.Flow:
    model = models.Flow().to(run.device).eval().requires_grad_(False)
    load(run.inputs, "flow", model)
    return model


def sigmas(steps: int, shift: float = SHIFT) -> torch.Tensor:
    """FlowMatchEulerDiscreteScheduler's noise levels for FluxPipeline, the final zero included."""
    even = torch.linspace(1, 1 / steps, steps)
    return torch.cat([shift * even / (1 + (shift - 1) * even), torch.zeros(1)])


class Guided:
    """Velocity with classifier-free guidance for a list of prompts; "" is the unconditional one."""

    def __init__(self, run: Run, model: models.Flow, prompts: list[str], guidance: float) -> None:
        words = run.words
        ids = words.ids(prompts + [""] * len(prompts))
        self.run, self.model, self.guidance = run, model, guidance
        with run.autocast():
            self.text = model.encode(run.send(words.for_clip(ids)), run.send(words.for_t5(ids)))

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        with self.run.autocast():
            time = sigma.to(x.device).expand(2 * len(x))
            conditional, unconditional = (
                self.model.velocity(torch.cat([x, x]), time, self.text).float().chunk(2)
            )
        return unconditional + self.guidance * (conditional - unconditional)


@torch.no_grad()
def sample(
    run: Run,
    model: models.Flow,
    prompts: list[str],
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> torch.Tensor:
    """Packed latents by Euler steps."""
    velocity, levels = Guided(run, model, prompts, guidance), sigmas(steps)
    x = torch.randn(len(prompts), 256, 32, generator=torch.Generator().manual_seed(seed)).to(
        run.device
    )
    for now, after in itertools.pairwise(levels):
        x = x + (after - now) * velocity(x, now)
    return x


@torch.no_grad()
def repaint(
    run: Run,
    model: models.Flow,
    source: torch.Tensor,
    prompts: list[str],
    change: float,
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> torch.Tensor:
    """Image to image: noise the latents `source` to the first level at or below `change`, then denoise under new prompts."""
    velocity, levels = Guided(run, model, prompts, guidance), sigmas(steps)
    levels = levels[int((levels > change).sum()) :]
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(seed)).to(run.device)
    x = torch.lerp(source, noise, levels[0].to(source.device))
    for now, after in itertools.pairwise(levels):
        x = x + (after - now) * velocity(x, now)
    return x


@torch.no_grad()
def flow_edit(
    run: Run, model: models.Flow, source: torch.Tensor, before: list[str], after: list[str], seed: int, steps: int = STEPS,
    start: float = 0.9, guidance: tuple[float, float] = (1.5, 4.5),
) -> torch.Tensor:  # fmt: skip
    """FlowEdit (Kulikov et al. 2024): carry the latents from one prompt to another along the difference of their velocities."""
    old, new = Guided(run, model, before, guidance[0]), Guided(run, model, after, guidance[1])
    levels = sigmas(steps)
    levels = levels[int((levels > start).sum()) :]
    generator = torch.Generator().manual_seed(seed)
    x = source.clone()
    for now, then in itertools.pairwise(levels):
        noise = torch.randn(source.shape, generator=generator).to(run.device)
        noisy = torch.lerp(source, noise, now.to(source.device))
        x = x + (then - now) * (new(x + noisy - source, now) - old(noisy, now))
    return x
