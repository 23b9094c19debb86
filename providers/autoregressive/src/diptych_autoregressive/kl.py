"""MAR's continuous tokenizer: a KL autoencoder with 16 channels at a sixteenth of the resolution.

MAR (arXiv:2406.11838) generates its latents; the layout is that of latent diffusion
(arXiv:2112.10752). Read from `kl16.ckpt`, whose widths are inferred from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .convnet import ConvNet, Shape, canonical

__all__ = ["SCALE", "Autoencoder"]

SCALE = 0.2325
"""MAR's latents are the posterior mean times this, so that they have about unit variance."""


class Autoencoder(nn.Module):
    def __init__(self, encoder: Shape, decoder: Shape) -> None:
        super().__init__()
        channels = decoder.inputs
        self.encoder = ConvNet(encoder, up=False)
        self.decoder = ConvNet(decoder, up=True)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.channels = channels
        self.factor = 2 ** (len(decoder.levels) - 1)

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> Autoencoder:
        """From a published state dict. Keys that are missing or unknown raise `RuntimeError`."""
        state = canonical({k: v for k, v in state.items() if not k.startswith("loss.")})
        with torch.device("meta"):
            model = cls(Shape.of(state, "encoder"), Shape.of(state, "decoder"))
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def moments(self, image: Tensor) -> Tensor:
        """Mean and log-variance (B, 32, h, w) of a picture (B, 3, S, S) in -1..1."""
        moments: Tensor = self.quant_conv(self.encoder(image))
        return moments

    def encode(self, image: Tensor) -> Tensor:
        """The scaled posterior mean (B, 16, h, w) of a picture (B, 3, S, S) in -1..1."""
        return self.moments(image)[:, : self.channels] * SCALE

    def decode(self, latent: Tensor) -> Tensor:
        """A picture (B, 3, S, S), about -1..1, of a scaled latent (B, 16, h, w)."""
        picture: Tensor = self.decoder(self.post_quant_conv(latent / SCALE))
        return picture
