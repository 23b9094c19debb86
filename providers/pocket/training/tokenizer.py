"""Train the autoregressive model's image tokenizer: Emu3's VQ architecture with finite scalar quantisation."""

from __future__ import annotations

import json

import torch
from torch import nn
from transformers import Emu3VQVAE

from training import feed, models
from training.autoencoder import picture_loss, psnr
from training.optim import Training
from training.run import Log, Run, grid, load, save


def build(run: Run) -> Emu3VQVAE:
    model = models.emu3(run.words).model.vqmodel
    with torch.no_grad():
        model.quant_conv.conv.weight.mul_(0.4)  # start well inside the grid
    model.quantize.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    # Evaluation mode: the temporal batch norms see single frames and stay as they are.
    return model.to(run.device).eval()


def quantise(latents: torch.Tensor) -> torch.Tensor:
    """The nearest point of the grid in [-1, 1], straight through."""
    half = (models.LEVELS - 1) / 2
    bounded = latents.float().clamp(-1, 1)
    return bounded + (((bounded + 1) * half).round() / half - 1 - bounded).detach()


def encode(model: Emu3VQVAE, picture: torch.Tensor) -> torch.Tensor:
    """Pictures (N, 3, H, W) to continuous latents (N, 1, 4, H/8, W/8)."""
    hidden = model.encoder(picture[:, None])  # one frame
    latents: torch.Tensor = model.quant_conv(hidden.permute(0, 2, 1, 3, 4))
    return latents.permute(0, 2, 1, 3, 4)


def decode(model: Emu3VQVAE, quantised: torch.Tensor) -> torch.Tensor:
    """Grid points (N, 1, 4, h, w) to pictures."""
    after = model.post_quant_conv(quantised.permute(0, 2, 1, 3, 4)).permute(0, 2, 1, 3, 4)
    picture: torch.Tensor = model.decoder(after, quantised)
    return picture


def codes(latents: torch.Tensor) -> torch.Tensor:
    """The codebook index of the nearest grid point, (N, h, w)."""
    half = (models.LEVELS - 1) / 2
    digits = ((latents[:, 0].float().clamp(-1, 1) + 1) * half).round().long()
    places = torch.tensor([models.LEVELS ** (3 - i) for i in range(4)], device=latents.device)
    return (digits * places[None, :, None, None]).sum(1)


def train(run: Run) -> None:
    canvas, model = run.canvas(), build(run)
    training = Training(
        model, lr=1e-3, seconds=run.seconds, steps=run.steps, decay=0.5, average=0.995, muon=False
    )
    done = run.restore("tokenizer", model, training)
    batches = run.feed(feed.pictures, run.batch or 192, offset=done)

    def loss_of(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        latents = encode(model, picture)
        decoded = decode(model, quantise(latents))
        outside = (latents.float() - latents.float().clamp(-1, 1).detach()).square().mean()
        return picture_loss(decoded, picture) + 0.25 * outside, decoded, latents

    compute, log = run.faster(loss_of), Log("tokenizer")
    for batch in batches:
        if training.progress() >= 1:
            break
        picture = canvas.draw(batch["scenes"]).contiguous(memory_format=torch.channels_last)
        with run.autocast():
            loss, decoded, latents = compute(picture)
        training.step(loss)
        spread = latents.detach().float()
        log(
            training.step_count + done,
            {
                "loss": loss,
                "psnr": psnr(decoded.detach(), picture),
                "beyond": (spread.abs() > 1).float().mean(),
            },
        )
    training.use_average()
    _measure(run, model, canvas.draw(next(iter(batches))["scenes"]), training.step_count + done)
    batches.close()


@torch.no_grad()
def _measure(run: Run, model: Emu3VQVAE, picture: torch.Tensor, steps: int) -> None:
    model.half().float()
    latents = encode(model, picture)
    decoded = decode(model, quantise(latents))
    used = codes(latents).flatten().bincount(minlength=4096)
    share = used.float() / used.sum()
    perplexity = torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
    facts = {
        "steps": steps,
        "psnr": round(psnr(decoded, picture).item(), 2),
        "codes_used": int((used > 0).sum()),
        "perplexity": round(perplexity.item()),
    }
    print("tokenizer", facts, flush=True)
    (run.outputs / "tokenizer.json").write_text(json.dumps(facts))
    save(run.outputs, "tokenizer", model)
    grid(torch.stack([picture[:12], decoded[:12]]).flatten(0, 1), 12).save(
        run.outputs / "tokenizer.png"
    )


class Codes:
    """The trained tokenizer between pictures and codes (N, 16, 16)."""

    def __init__(self, run: Run) -> None:
        self.model = build(run)
        load(run.inputs, "tokenizer", self.model)
        self.model.requires_grad_(False)
        self.run, self.encoder = run, run.faster(encode)

    @torch.no_grad()
    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        with self.run.autocast():
            return codes(self.encoder(self.model, picture))

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.model.decode(part) for part in torch.split(codes, 128)])
