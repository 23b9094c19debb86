"""Reference pictures for models that read none by themselves: IP-Adapters and FLUX.1 Redux.

An IP-Adapter replaces attention processors of the shared denoiser, which then fails without a
reference. Here it is worn while a step of its own request runs, and taken off before anybody else's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image as pillow
from torch import Tensor

from diptych.errors import ConfigurationError, InvalidInput
from diptych.local.components import component, weights

from .classes import CLASSES
from .files import found, weights_in
from .logs import listening

__all__ = ["IPAdapter", "References"]

KEPT = 2
"""IP-Adapters and Redux models that stay loaded."""

_PREFIXES = {
    "image_proj": "image_proj",
    "ip_adapter_proj_model": "image_proj",
    "ip_adapter": "ip_adapter",
    "double_blocks": "ip_adapter",
}
_RENAMED = {
    "ip_adapter_double_stream_k_proj": "to_k_ip",
    "ip_adapter_double_stream_v_proj": "to_v_ip",
    "processor.": "",
}
"""How the two publishers of IP-Adapters name their weights, and diffusers' names."""


class IPAdapter:
    """A loaded IP-Adapter and the encoder of the pictures that it reads."""

    def __init__(self, denoiser: Any, state: dict[str, dict[str, Tensor]], encoder: Any) -> None:
        self.denoiser, self.encoder = denoiser, encoder
        plain = self._taken()
        try:
            with listening().around():
                denoiser._load_ip_adapter_weights([state])
            self._state = self._taken()
        finally:
            self._put(plain)

    def _taken(self) -> tuple[dict[str, Any], Any, Any]:
        config = self.denoiser.config
        return (
            dict(self.denoiser.attn_processors),
            getattr(self.denoiser, "encoder_hid_proj", None),
            getattr(config, "encoder_hid_dim_type", None),
        )

    def _put(self, state: tuple[dict[str, Any], Any, Any]) -> None:
        # The projection has processors of its own, which would be counted.
        self.denoiser.encoder_hid_proj = None
        self.denoiser.set_attn_processor(dict(state[0]))
        self.denoiser.encoder_hid_proj = state[1]
        self.denoiser.config.encoder_hid_dim_type = state[2]

    @contextmanager
    def worn(self, weight: float) -> Iterator[None]:
        """The denoiser reads references, with this weight, within the context."""
        plain = self._taken()
        for processor in self._state[0].values():
            if hasattr(processor, "scale"):
                processor.scale = [weight] * len(processor.scale)
        self._put(self._state)
        try:
            yield
        finally:
            self._put(plain)


class References:
    """What makes references readable for one loaded model."""

    def __init__(self, parts: Mapping[str, Any], device: str, dtype: torch.dtype) -> None:
        self.parts, self.device, self.dtype = parts, device, dtype
        self._loaded: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def ip_adapter(self, name: str, encoder: str | None) -> IPAdapter:
        """The IP-Adapter called `name`; `encoder` names its picture encoder where it is elsewhere.

        Blocks. Raises `InvalidInput` for what is no IP-Adapter, `ConfigurationError` for one that
        does not fit or has no encoder.
        """
        key = ("ip_adapter", name, encoder or "")
        if key not in self._loaded:
            file = weights_in(found(name, "extra"), "extra", "ip_adapter.safetensors")
            state = _read(file)
            reader = self.parts.get("image_encoder") or self._encoder(name, file, encoder)
            denoiser = self.parts.get("transformer", self.parts.get("unet"))
            try:
                self._keep(key, IPAdapter(denoiser, state, reader))
            except (RuntimeError, KeyError, ValueError) as error:
                raise ConfigurationError(
                    f"extra: {file} does not fit this model: {str(error)[:300]}"
                ) from None
        self._loaded.move_to_end(key)
        adapter: IPAdapter = self._loaded[key]
        return adapter

    def _encoder(self, name: str, file: Path, encoder: str | None) -> Any:
        if encoder is not None:
            folder = found(encoder, "extra")
        else:
            beside = (file.parent / "image_encoder", file.parents[1] / "models" / "image_encoder")
            folder = next((each for each in beside if (each / "config.json").is_file()), beside[0])
            if not folder.is_dir() and not Path(name).expanduser().exists():
                folder = found(f"{name.rpartition('/')[0]}/image_encoder", "extra")
        if not (folder / "config.json").is_file():
            raise ConfigurationError(
                f"extra: {name} needs the encoder of its pictures, and there is none in {folder}; name "
                "it: extra={'image_encoder': 'org/name'}"
            )
        return weights(folder, "CLIPVisionModelWithProjection", self.dtype, CLASSES).to(self.device)

    def redux(self, name: str, picture: pillow.Image, prompt: str) -> tuple[Tensor, Tensor]:
        """What FLUX.1 reads instead of a prompt: the prompt and the picture, in tokens and pooled."""
        import diffusers

        key = ("redux", name)
        if key not in self._loaded:
            folder = found(name, "extra")
            names = ("image_encoder", "image_embedder", "feature_extractor")
            made = {each: component(folder, each, self.dtype, CLASSES) for each in names}
            if any(part is None for part in made.values()):
                raise ConfigurationError(f"extra: {folder} is no Redux model")
            for part in ("image_encoder", "image_embedder"):
                made[part].to(self.device)
            self._keep(key, made)
        self._loaded.move_to_end(key)
        text = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
        with listening().around():
            prior = diffusers.FluxPriorReduxPipeline(
                **self._loaded[key], **{part: self.parts[part] for part in text}
            )
            tokens, pooled = prior(picture, prompt=prompt, return_dict=False)
        return tokens, pooled

    def _keep(self, key: tuple[str, ...], value: Any) -> None:
        self._loaded[key] = value
        if len(self._loaded) > KEPT:
            self._loaded.popitem(last=False)


def _read(file: Path) -> dict[str, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118
                first, _, rest = key.partition(".")
                for theirs, ours in _RENAMED.items():
                    rest = rest.replace(theirs, ours)
                if first in _PREFIXES:
                    state[_PREFIXES[first]][rest] = opened.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"extra: {file} cannot be read as safetensors: {error}") from None
    if not all(state.values()):
        raise InvalidInput(
            f"extra: {file} is no IP-Adapter: it lacks image_proj or ip_adapter weights"
        )
    return state
