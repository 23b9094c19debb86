"""Train the diffusion model's autoencoder, and measure its latents."""

from __future__ import annotations

import json

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from training import feed, models
from training.optim import Training
from training.run import Log, Run, grid, load, save

NOISE = 0.1  # added to the latents in training, so that small errors of the diffusion model decode to small errors


def picture_loss(decoded: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """L1, and L1 of differences at three scales, which keeps thin lines."""
    decoded, picture = decoded.float(), picture.float()
    loss = (decoded - picture).abs().mean()
    error = decoded - picture
    for _ in range(3):
        loss = loss + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = F.avg_pool2d(error, 2)
    return loss


def psnr(decoded: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """In decibels, for pictures in [-1, 1]."""
    return 10 * torch.log10(4 / (decoded.float().clamp(-1, 1) - picture.float()).square().mean())


def train(run: Run) -> None:
    canvas = run.canvas()
    model = models.autoencoder().to(run.device, memory_format=torch.channels_last).train()
    training = Training(
        model, lr=1.2e-3, seconds=run.seconds, steps=run.steps, decay=0.4, average=0.995, muon=False
    )
    batches = run.feed(feed.pictures, run.batch or 192)

    def loss_of(
        picture: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        latents = model.encoder(picture)
        decoded = model.decoder(latents + NOISE * noise)
        bound = F.relu(latents.float().abs() - 2).square().mean()
        return (
            picture_loss(decoded, picture) + 0.1 * bound + 1e-3 * latents.float().square().mean(),
            decoded,
            latents,
        )

    compute, log = run.faster(loss_of), Log("autoencoder")
    for batch in batches:
        if training.progress() >= 1:
            break
        picture = canvas.draw(batch["scenes"]).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(len(picture), 8, 32, 32, device=run.device)
        with run.autocast():
            loss, decoded, latents = compute(picture, noise)
        training.step(loss)
        log(
            training.step_count,
            {
                "loss": loss,
                "psnr": psnr(decoded.detach(), picture),
                "spread": latents.detach().float().std(),
            },
        )
    training.use_average()
    _measure(run, model, canvas.draw(next(iter(batches))["scenes"]), training.step_count)
    batches.close()


@torch.no_grad()
def _measure(run: Run, model: AutoencoderTiny, picture: torch.Tensor, steps: int) -> None:
    """Save the weights, the latents' mean and spread for the scheduler's unit variance, and a sheet of reconstructions."""
    model.half().float()
    latents = model.encode(picture).latents
    decoded = model.decode(latents).sample
    facts = {
        "steps": steps, "psnr": round(psnr(decoded, picture).item(), 2), "shift_factor": round(latents.mean().item(), 4),
        "scaling_factor": round(1 / latents.std().item(), 4),
    }  # fmt: skip
    print("autoencoder", facts, flush=True)
    (run.outputs / "autoencoder.json").write_text(json.dumps(facts))
    save(run.outputs, "autoencoder", model)
    grid(torch.stack([picture[:12], decoded[:12]]).flatten(0, 1), 12).save(
        run.outputs / "autoencoder.png"
    )


class Latents:
    """The trained autoencoder with its latents scaled to unit variance and packed as FLUX packs them."""

    def __init__(self, run: Run) -> None:
        self.model = models.autoencoder().to(run.device)
        load(run.inputs, "autoencoder", self.model)
        self.model.requires_grad_(False).to(memory_format=torch.channels_last)
        self.facts = json.loads((run.inputs / "autoencoder.json").read_text())
        self.run, self.encoder, self.decoder = (
            run,
            run.faster(self.model.encoder),
            self.model.decoder,
        )

    @torch.no_grad()
    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        with self.run.autocast():
            latents = self.encoder(picture.contiguous(memory_format=torch.channels_last)).float()
        return models.pack((latents - self.facts["shift_factor"]) * self.facts["scaling_factor"])

    @torch.no_grad()
    def decode(self, packed: torch.Tensor) -> torch.Tensor:
        latents = models.unpack(packed) / self.facts["scaling_factor"] + self.facts["shift_factor"]
        return torch.cat([self.decoder(part) for part in torch.split(latents, 128)])
