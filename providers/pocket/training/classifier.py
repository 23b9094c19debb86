"""Train the judge: a small residual network that reads a picture's attributes. It is not shipped."""

from __future__ import annotations

import itertools
import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from training import feed, world
from training.autoencoder import Latents
from training.optim import Training
from training.run import Log, Run, load, save
from training.tokenizer import Codes

HEADS = {
    "subject": len(world.SUBJECTS), "wear": len(world.GLYPHS) + 1, "relation": len(world.RELATIONS), "item": len(world.GLYPHS) + 1,
    "background": len(world.BACKGROUNDS), "style": len(world.STYLES),
}  # fmt: skip


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outside) for _ in range(2))
        self.skip = nn.Conv2d(inside, outside, 1, stride, bias=False) if stride > 1 or inside != outside else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(inner + self.skip(x))


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (48, 64, 128, 192, 256)
        self.body = nn.Sequential(
            nn.Conv2d(3, 48, 5, 2, 2), nn.ReLU(), *(_Block(a, b, 2) for a, b in itertools.pairwise(widths)), _Block(256, 256, 1)
        )
        self.heads = nn.ModuleDict({key: nn.Linear(256 * 4, size) for key, size in HEADS.items()})

    def forward(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        features = F.adaptive_avg_pool2d(self.body(picture), 2).flatten(1)
        return {key: head(features) for key, head in self.heads.items()}

    @torch.no_grad()
    def read(self, pictures: torch.Tensor) -> dict[str, np.ndarray]:
        """The most likely attributes, in `world`'s numbers."""
        parts = [self(part) for part in pictures.float().clamp(-1, 1).split(128)]
        read = {key: torch.cat([part[key] for part in parts]).argmax(1).cpu().numpy() for key in HEADS}
        return {key: value - 1 if key in ("wear", "item") else value for key, value in read.items()}


def targets(scenes: world.Scenes) -> dict[str, np.ndarray]:
    return {key: scenes[key].astype(np.int64) + (key in ("wear", "item")) for key in HEADS}


def train(run: Run) -> None:
    """Learn from drawn pictures, a third of them seen through the autoencoder and a third through the tokenizer."""
    canvas, latents, codes = run.canvas(), Latents(run), Codes(run)
    model = Judge().to(run.device, memory_format=torch.channels_last).train()
    training = Training(model, lr=2e-3, seconds=run.seconds, steps=run.steps, decay=0.6, average=0.99, muon=False)
    done = run.restore("classifier", model, training)
    batches = run.feed(feed.pictures, run.batch or 384, offset=done)
    compute, log = run.faster(model), Log("classifier")
    for batch in batches:
        if training.progress() >= 1:
            break
        scenes = batch["scenes"]
        picture = _through(canvas.draw(scenes), latents, codes, run) + 0.04 * torch.randn(1, device=run.device)
        visible = run.send(world.shows_background(scenes))
        with run.autocast():
            guesses = compute(picture.contiguous(memory_format=torch.channels_last))
            losses = {key: F.cross_entropy(guesses[key].float(), run.send(value), reduction="none") for key, value in targets(scenes).items()}
            losses["background"] = losses["background"] * visible
        losses = {key: value.mean() for key, value in losses.items()}
        training.step(sum(losses.values()))
        log(training.step_count + done, losses)
    batches.close()
    save(run.outputs, "classifier", model)
    restored = judge(run, run.outputs)
    scenes = world.sample(2000 if run.device.type == "cuda" else 20, np.random.default_rng(77), held_back=True)
    drawn = canvas.draw(scenes)
    facts: dict = {"steps": training.step_count + done}
    for name, pictures in (
        ("drawn", drawn),
        ("autoencoder", latents.decode(latents.encode(drawn))),
        ("tokenizer", codes.decode(codes.encode(drawn))),
    ):
        facts[name] = score(restored.read(pictures), scenes)
        print("classifier", name, facts[name], flush=True)
    (run.outputs / "classifier.json").write_text(json.dumps(facts))


@torch.no_grad()
def _through(picture: torch.Tensor, latents: Latents, codes: Codes, run: Run) -> torch.Tensor:
    third = len(picture) // 3
    with run.autocast():
        first = latents.decode(latents.encode(picture[:third]))
        second = codes.decode(codes.encode(picture[third : 2 * third]))
    return torch.cat([first.float(), second.float(), picture[2 * third :]])


def judge(run: Run, folder=None) -> Judge:
    model = Judge().to(run.device)
    load(folder or run.inputs, "classifier", model)
    return model.eval().requires_grad_(False)


def score(read: dict[str, np.ndarray], scenes: world.Scenes) -> dict[str, float]:
    """Share read right of each attribute, in percent; a background that the style hides does not count."""
    shares = {}
    for key in ("subject", "item", "wear", "background", "style"):
        rows = world.shows_background(scenes) if key == "background" else np.ones(len(scenes["style"]), bool)
        shares[key] = round(100 * float((read[key] == scenes[key])[rows].mean()), 1)
    return shares
