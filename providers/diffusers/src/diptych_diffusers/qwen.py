"""Qwen-Image: a vision-language model reads the prompt, latents packed in 2x2 patches."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diptych.local import tensors

from .flux import Flux
from .native import Ask, Text

__all__ = ["QwenImage"]

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, "
    "text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""The words around a prompt that the model was trained with."""

DROPPED = 34
"""Tokens of the template before the prompt; the transformer does not see them."""

READ = 1024
"""Tokens that the encoder is given at most, without those."""


class QwenImage(Flux):
    """Qwen-Image. Latents are laid out as FLUX.1 does; prompts keep their own lengths."""

    @property
    def cell(self) -> int:
        return int(2 ** len(self.vae.temperal_downsample))

    def encode(self, prompt: str, length: int) -> Text:
        tokenizer = self.parts["tokenizer"]
        ids = tokenizer(
            TEMPLATE.format(prompt), max_length=READ + DROPPED, truncation=True, return_tensors="pt"
        ).input_ids
        answer = self.parts["text_encoder"](
            input_ids=ids.to(self.device),
            attention_mask=torch.ones_like(ids).to(self.device),
            output_hidden_states=True,
        )
        seen = answer.hidden_states[-1][0, DROPPED:][:length]
        words = tokenizer(prompt, verbose=False).input_ids
        cut = str(tokenizer.decode(words[length:])).strip() if len(words) > length else ""
        return Text(seen.to(self.dtype), cut=cut)

    def latents(self, picture: Tensor) -> Tensor:
        frame = picture.to(self.device, self.dtype)[None, :, None]
        planes = self.vae.encode(frame).latent_dist.mode()[0, :, 0].float()
        mean, std = self._scales()
        return self.laid_out((planes - mean) / std)

    def picture(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        mean, std = self._scales()
        planes = self.planes(latents, size) * std + mean
        frames = self.vae.decode(planes.to(self.dtype)[None, :, None], return_dict=False)[0]
        picture: Tensor = frames[0, :, 0]
        return picture

    def _scales(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every channel, (C, 1, 1)."""
        config = self.vae.config
        mean, std = (
            torch.tensor(each, device=self.device)[:, None, None]
            for each in (config.latents_mean, config.latents_std)
        )
        return mean, std

    def group(self, ask: Ask) -> Hashable:
        return ask.grid  # texts of different lengths are padded and masked

    def velocities(self, asks: Sequence[Ask]) -> list[Tensor]:
        texts = [ask.text.tokens for ask in asks]
        lengths = torch.tensor([len(text) for text in texts])
        mask = None
        if lengths.min() < lengths.max():
            mask = tensors.sent(torch.arange(int(lengths.max())) < lengths[:, None], self.device)
        levels = torch.tensor([ask.sigma for ask in asks]).mul(1000).to(self.dtype)
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = tensors.sent(torch.tensor([ask.guidance for ask in asks]), self.device)
        answer = self.transformer(
            hidden_states=torch.stack([ask.latents for ask in asks]).to(self.dtype),
            timestep=tensors.sent(levels, self.device) / 1000,
            guidance=guidance,
            encoder_hidden_states=pad_sequence(texts, batch_first=True),
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, *ask.grid)] for ask in asks],
            return_dict=False,
        )[0]
        return list(answer.float().unbind())

    def guided(self, positive: Tensor, negative: Tensor, scale: float) -> Tensor:
        """Guidance that keeps the length of each token's velocity."""
        moved = negative + scale * (positive - negative)
        rescaled: Tensor = moved * (
            positive.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)
        )
        return rescaled
