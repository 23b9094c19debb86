"""The discrete tokenizers: VAR's multi-scale residual one and LlamaGen's one of a single grid.

VAR (arXiv:2404.02905) writes a picture as a pyramid of token maps, each of which refines the sum of
those before it; LlamaGen (arXiv:2406.06525) as one grid of tokens in raster order. Both read their
widths from the published state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convnet import ConvNet, Shape, canonical

__all__ = ["GridTokenizer", "ScaleTokenizer"]


class _Tokenizer(nn.Module):
    """Encoder, codebook, decoder; `quant_conv` and `post_quant_conv` lead to the codes' space."""

    def __init__(self, encoder: Shape, decoder: Shape, codes: Sequence[int], kernel: int) -> None:
        super().__init__()
        self.encoder = ConvNet(encoder, up=False)
        self.decoder = ConvNet(decoder, up=True)
        padding = kernel // 2
        self.quant_conv = nn.Conv2d(encoder.outputs, codes[1], kernel, padding=padding)
        self.post_quant_conv = nn.Conv2d(codes[1], decoder.inputs, kernel, padding=padding)
        self.codebook = nn.Parameter(torch.empty(codes[0], codes[1]))
        self.factor = 2 ** (len(decoder.levels) - 1)

    def features(self, image: Tensor) -> Tensor:
        """Features (B, C, h, w), not yet quantised, of a picture (B, 3, S, S) in -1..1."""
        out: Tensor = self.quant_conv(self.encoder(image.to(self.quant_conv.weight.dtype)))
        return out

    def picture(self, features: Tensor) -> Tensor:
        """A picture (B, 3, S, S), about -1..1, of quantised features (B, C, h, w)."""
        features = features.to(self.post_quant_conv.weight.dtype)
        out: Tensor = self.decoder(self.post_quant_conv(features))
        return out

    def place(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Move to `device`; the nets to `dtype`, while the codes stay in float32."""
        for net in (self.encoder, self.decoder, self.quant_conv, self.post_quant_conv):
            net.to(dtype)
        return self.to(device)

    def nearest(self, vectors: Tensor) -> Tensor:
        """The numbers (...) of the codes that are nearest to `vectors` (..., C)."""
        # |x - e|^2 without |x|^2, which is the same for every code.
        return (self.codebook.square().sum(1) - 2 * vectors @ self.codebook.T).argmin(-1)


class ScaleTokenizer(_Tokenizer):
    """VAR's tokenizer: f_hat (B, C, P, P), the sum over scales, is what the decoder reads."""

    def __init__(
        self, encoder: Shape, decoder: Shape, codes: Sequence[int], kernel: int, phis: int
    ) -> None:
        super().__init__(encoder, decoder, codes, kernel)
        self.phis = nn.ModuleList(nn.Conv2d(codes[1], codes[1], 3, padding=1) for _ in range(phis))

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> ScaleTokenizer:
        """From a published state dict (`vae_ch160v4096z32.pth`)."""
        state = canonical(state)
        state.pop("quantize.ema_vocab_hit_SV", None)  # counts of training
        state["codebook"] = state.pop("quantize.embedding.weight")
        shared = "quantize.quant_resi.qresi_ls."
        state = {name.replace(shared, "phis."): tensor for name, tensor in state.items()}
        with torch.device("meta"):
            model = cls(
                Shape.of(state, "encoder"),
                Shape.of(state, "decoder"),
                state["codebook"].shape,
                state["quant_conv.weight"].shape[-1],
                sum(name.startswith("phis.") and name.endswith("weight") for name in state),
            )
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def refine(self, codes: Tensor, scale: int, scales: int, side: int) -> Tensor:
        """What the codes (B, C, n, n) of one scale add to f_hat (B, C, side, side)."""
        if codes.shape[-1] != side:
            codes = F.interpolate(codes, (side, side), mode="bicubic")
        phi = self.phis[_nearest_tick(len(self.phis), scale / max(scales - 1, 1))]
        out: Tensor = 0.5 * codes + 0.5 * phi(codes)
        return out

    def encode(self, image: Tensor, patch_nums: Sequence[int]) -> list[Tensor]:
        """The tokens (B, n * n) of every scale of a picture (B, 3, S, S) in -1..1."""
        rest = self.features(image).float()
        side, tokens = patch_nums[-1], []
        for scale, n in enumerate(patch_nums):
            pooled = rest if n == side else F.adaptive_avg_pool2d(rest, n)
            tokens.append(self.nearest(pooled.permute(0, 2, 3, 1)).flatten(1))
            rest = rest - self.refine(self.maps(tokens[-1]), scale, len(patch_nums), side)
        return tokens

    def decode(self, tokens: Sequence[Tensor]) -> Tensor:
        """A picture (B, 3, S, S) in -1..1 of the tokens (B, n * n) of every scale."""
        side = round(tokens[-1].shape[1] ** 0.5)
        parts = [
            self.refine(self.maps(each), scale, len(tokens), side)
            for scale, each in enumerate(tokens)
        ]
        return self.picture(torch.stack(parts).sum(0)).clamp(-1, 1)

    def maps(self, tokens: Tensor) -> Tensor:
        """Codes (B, C, n, n) of tokens (B, n * n)."""
        n = round(tokens.shape[1] ** 0.5)
        return F.embedding(tokens, self.codebook).mT.reshape(len(tokens), -1, n, n)


def _nearest_tick(phis: int, at: float) -> int:
    """Which of the shared convolutions serves a scale; the ticks are those of the paper's code."""
    end = 1 / 3 / phis if phis == 4 else 1 / 2 / phis
    ticks = [end + (1 - 2 * end) * j / max(phis - 1, 1) for j in range(phis)]
    return min(range(phis), key=lambda j: abs(ticks[j] - at))


class GridTokenizer(_Tokenizer):
    """LlamaGen's tokenizer: one grid of tokens, codes on the unit sphere."""

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> GridTokenizer:
        """From a published state dict (`vq_ds16_c2i.pt`, `vq_ds8_c2i.pt`, `vq_ds16_t2i.pt`)."""
        state = canonical(state)
        state.pop("quantize.codebook_used", None)  # counts of training
        state["codebook"] = F.normalize(state.pop("quantize.embedding.weight").float(), dim=-1)
        with torch.device("meta"):
            model = cls(
                Shape.of(state, "encoder"),
                Shape.of(state, "decoder"),
                state["codebook"].shape,
                state["quant_conv.weight"].shape[-1],
            )
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def encode(self, image: Tensor) -> Tensor:
        """The tokens (B, g * g), in raster order, of a picture (B, 3, S, S) in -1..1."""
        features = self.features(image).permute(0, 2, 3, 1)
        return self.nearest(F.normalize(features.to(self.codebook.dtype), dim=-1)).flatten(1)

    def decode(self, tokens: Tensor) -> Tensor:
        """A picture (B, 3, S, S), about -1..1, of tokens (B, g * g); numbers below 0 are blank."""
        side = round(tokens.shape[1] ** 0.5)
        codes = F.embedding(tokens.clamp(min=0), self.codebook) * (tokens >= 0)[..., None]
        return self.picture(codes.mT.reshape(len(tokens), -1, side, side))
