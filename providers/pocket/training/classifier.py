"""Train the judge on drawn pictures, some of them seen through the autoencoder or the tokenizer."""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from training import feed, judge, world
from training.autoencoder import Latents
from training.optim import Training
from training.run import Log, Run
from training.tokenizer import Codes

SCORED = ("subject", "item", "wear", "background", "style")


def train(run: Run) -> None:
    canvas, latents, codes = run.canvas(), Latents(run), Codes(run)
    model = judge.Judge().to(run.device)
    training = Training(
        model, lr=2e-3, seconds=run.seconds, steps=run.steps, decay=0.6, average=0.99, muon=False
    )
    done, size = _restore(run, model, training), run.batch or 384
    batches = run.feed(feed.pictures, size, offset=done)
    compute, log = run.faster(model), Log("classifier")
    for batch in batches:
        if training.progress() >= 1:
            break
        scenes = batch["scenes"]
        picture = _through(canvas.draw(scenes), latents, codes, run)
        picture = picture + 0.04 * torch.randn(len(picture), 1, 1, 1, device=run.device)
        visible = run.send(world.shows_background(scenes))
        wanted = {key: run.send(value) for key, value in judge.targets(scenes).items()}
        with run.autocast():
            guesses = compute(picture)
            losses = {
                key: F.cross_entropy(guesses[key].float(), value, reduction="none")
                for key, value in wanted.items()
            }
        losses["background"] = losses["background"] * visible
        means = {key: value.mean() for key, value in losses.items()}
        training.step(torch.stack(list(means.values())).sum())
        log(training.step_count + done, means)
    batches.close()
    training.use_average()
    path = run.outputs / "judge.safetensors"
    save_file({key: _half(tensor) for key, tensor in model.state_dict().items()}, path)
    facts = {"steps": training.step_count + done, "batch": size, "seed": run.seed}
    scores = measure(
        run, judge.load(path).to(run.device), 1000 if run.device.type == "cuda" else 10
    )
    (run.outputs / "classifier.json").write_text(json.dumps({**facts, **scores}))


def _restore(run: Run, model: judge.Judge, training: Training) -> int:
    """Go on from the judge among the inputs, if there is one; the steps done so far."""
    path = run.inputs / "judge.safetensors"
    if not path.exists():
        return 0
    model.load_state_dict(load_file(path))
    for average, parameter in zip(training.average, training.parameters, strict=True):
        average.copy_(parameter.detach())
    steps: int = json.loads((run.inputs / "classifier.json").read_text())["steps"]
    return steps


def measure(run: Run, model: judge.Judge, n: int) -> dict[str, dict[str, float]]:
    """How much the judge reads right of `n` true pictures that were held back."""
    canvas, latents, codes = run.canvas(), Latents(run), Codes(run)
    scenes = world.sample(n, np.random.default_rng(77), held_back=True)
    drawn = canvas.draw(scenes)
    ways = {
        "drawn": drawn,
        "autoencoder": latents.decode(latents.encode(drawn)),
        "tokenizer": codes.decode(codes.encode(drawn)),
    }
    scores = {name: score(model.numbers(pictures), scenes) for name, pictures in ways.items()}
    for name, shares in scores.items():
        print("classifier", name, shares, flush=True)
    return scores


def score(read: world.Scenes, scenes: world.Scenes) -> dict[str, float]:
    """Share read right of each attribute, in percent; a background that the style hides does not count."""
    shares = {}
    for key in SCORED:
        shown = np.ones(len(scenes["style"]), bool)
        rows = world.shows_background(scenes) if key == "background" else shown
        shares[key] = round(100 * float((read[key] == scenes[key])[rows].mean()), 1)
    return shares


@torch.no_grad()
def _through(picture: torch.Tensor, latents: Latents, codes: Codes, run: Run) -> torch.Tensor:
    third = len(picture) // 3
    with run.autocast():
        first = latents.decode(latents.encode(picture[:third]))
        second = codes.decode(codes.encode(picture[third : 2 * third]))
    return torch.cat([first.float(), second.float(), picture[2 * third :]])


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
