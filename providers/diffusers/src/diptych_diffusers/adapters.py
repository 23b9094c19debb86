"""LoRAs: read, checked against the model, put on and taken off again without a trace.

An adapter stays in the model's layers once loaded, switched off: the layers then compute exactly
what they did before. Which ones are on is switched between steps, so that requests with different
adapters can take turns.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diptych.errors import ConfigurationError, InvalidInput

from .files import found, weights_in
from .logs import listening

__all__ = ["Adapters", "Worn", "mended", "worn"]

Worn = tuple[tuple[str, float], ...]
"""Paths and scales of the adapters that are on, in the caller's order."""

KEPT = 8
"""Adapters that stay loaded."""

_LAYER = re.compile(
    r"(?P<part>transformer|unet)\.(?P<layer>.+?)\.(?:lora_(?P<new>[AB])|lora\.(?P<old>down|up))"
    r"(?:\.default)?\.weight"
)

_NORM = re.compile(r"transformer\.(?P<layer>.+\.norm_(?:added_)?[qk])\.weight")
"""A layer that a control LoRA has for its own instead of adding to the model's."""

_TEXT = ("text_encoder", "lora_te")
"""How the weights for encoders of text begin."""

_SWAPPED = "final_layer.adaLN_modulation.1.lora_A.weight"
"""Of a control LoRA under its authors' names."""

_BASES = (
    ("stable-diffusion-xl", "sdxl"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-3", "sd3"),
    ("sd3", "sd3"),
    ("stable-diffusion", "sd"),
    ("sd", "sd"),
    ("lcm", "sd"),
    ("flux-2", "flux2"),
    ("flux.2", "flux2"),
    ("flux2", "flux2"),
    ("flux", "flux"),
    ("qwen", "qwen-image"),
    ("z-image", "z-image"),
    ("z_image", "z-image"),
    ("zimage", "z-image"),
    ("chroma", "chroma"),
    ("sana", "sana"),
)
"""How the name of a model or a family begins, and the base model that it means."""


class Adapters:
    """The adapters of one loaded model. Everything happens on the thread of its device.

    `parts` are the components whose layers are adapted, `pipeline` makes a stock pipeline that can
    load a LoRA, `family` is the name of the model's family. `control` is the control LoRA of which the
    model is the twin: what is loaded beside it was put on the model itself before.
    """

    def __init__(
        self, parts: Mapping[str, Any], pipeline: Any, family: str, control: str | None = None
    ) -> None:
        self._modules = [part for part in parts.values() if isinstance(part, nn.Module)]
        self._denoiser = parts.get("transformer", parts.get("unet"))
        self._pipeline = pipeline
        self._family = family
        self._control = control
        self._names: OrderedDict[str, str] = OrderedDict()
        self._count = 0
        self._worn: Worn = ()

    def load(self, wanted: Worn) -> None:
        """Load those that are not loaded yet. Blocks.

        Raises `InvalidInput` for what cannot be read, and `ConfigurationError` for an adapter of
        another model.
        """
        for path, _ in wanted:
            if path not in self._names:
                self._load(path)
            self._names.move_to_end(path)
        for path in list(self._names)[: max(0, len(self._names) - KEPT)]:
            if path not in {each for each, _ in wanted}:
                with listening().around():
                    self._pipeline().delete_adapters(self._names.pop(path))

    def wear(self, wanted: Worn) -> None:
        """Switch on exactly `wanted`, which are loaded."""
        if wanted == self._worn or not self._names:
            return
        scales: dict[str, float] = {}
        for path, scale in wanted:
            name = self._names[path]
            scales[name] = scales.get(name, 0.0) + scale
        for layer in self._layers():
            here = [name for name in sorted(scales) if name in layer.scaling]
            if here:
                layer.set_adapter(here)
                for name in here:
                    layer.set_scale(name, scales[name])
            layer.enable_adapters(bool(here))
        self._worn = wanted

    @property
    def reach_others(self) -> bool:
        """Whether an adapter sits in a text encoder, which other models may share."""
        return bool(self._names) and any(
            getattr(module, "peft_config", None)
            for module in self._modules
            if module is not self._denoiser
        )

    def _layers(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [
            layer
            for module in self._modules
            for layer in module.modules()
            if isinstance(layer, BaseTunerLayer)
        ]

    def _load(self, path: str) -> None:
        option = "controls" if path == self._control else "adapters"
        file = weights_in(found(path, option), option)
        state, metadata = _read(file, option)
        _check_base(file, metadata, self._family, option)
        if path == self._control:
            state = mended(state)
        beside = self._control not in (None, path)
        if beside:  # the encoders of text are the model's, which wears this one too
            state = {key: each for key, each in state.items() if not key.startswith(_TEXT)}
        self._count += 1
        name = f"adapter_{self._count}"
        with listening().around():
            pipe = self._pipeline()
            try:
                if not beside:
                    plain = _converted(pipe, state)
                    _check_layers(file, plain, self._denoiser, option)
                if state:
                    pipe.load_lora_weights(dict(state), adapter_name=name)
            except (ValueError, RuntimeError, KeyError) as error:
                raise InvalidInput(
                    f"{option}: {file} cannot be put on this model: {error}"
                ) from None
        layers = [layer for layer in self._layers() if name in layer.scaling]
        if not layers and not beside:
            raise InvalidInput(f"{option}: {file} changes no layer of this model")
        self._worn = (("", 0.0),)  # whatever is on now is not what anybody asked for
        self._names[path] = name
        self.wear(())


def _read(file: Path, option: str) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{option}: {file} cannot be read as safetensors: {error}") from None


def mended(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a control LoRA such that diffusers 0.42.1 reads its last modulation rightly.

    Shift and scale are the halves of the layer's outputs, and of the factors (rank, in) and (out, rank)
    diffusers swaps the halves of both; it has mended that for other files (its pull request 14001).
    """
    found = dict(state)
    if (first := found.get(_SWAPPED)) is not None:
        found[_SWAPPED] = first.roll((len(first) + 1) // 2, 0)
    return found


def _check_base(file: Path, metadata: Mapping[str, str], family: str, option: str) -> None:
    """Refuse an adapter whose file says that it belongs to another model."""
    for key in ("modelspec.architecture", "ss_base_model_version", "base_model"):
        said = metadata.get(key, "")
        meant = _base(said.rpartition("/")[2] if key == "base_model" else said)
        if meant is not None and meant != _base(family):
            raise ConfigurationError(
                f"{option}: {file} was made for {said!r} by its own account, and this model is {family}"
            )


def _base(name: str) -> str | None:
    return next((base for start, base in _BASES if name.lower().startswith(start)), None)


def _converted(pipe: Any, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights under diffusers' own names, whatever trainer wrote them."""
    unet = {"unet_config": pipe.unet.config} if hasattr(pipe, "unet") else {}
    converted = type(pipe).lora_state_dict(dict(state), **unet)
    found: Mapping[str, Tensor] = converted[0] if isinstance(converted, tuple) else converted
    return found


def _check_layers(
    file: Path, state: Mapping[str, Tensor], denoiser: nn.Module, option: str
) -> None:
    """Every layer must be there and have the adapter's shape.

    Norms are overwritten, not added to, so a control LoRA alone may bring them, to its twin.
    """
    layers = dict(denoiser.named_modules())
    wrong: list[str] = []
    for key, value in state.items():
        if (norm := _NORM.fullmatch(key)) is not None:
            if option == "adapters":
                raise ConfigurationError(
                    f"adapters: {file} replaces {norm['layer']}, which could not be taken off again; only "
                    "control LoRAs may: controls=[Control(kind, image, path=...)]"
                )
            own = getattr(layers.get(norm["layer"]), "weight", None)
            if own is None or own.shape != value.shape:
                wrong.append(norm["layer"])
            continue
        named = _LAYER.fullmatch(key)
        if named is None:
            continue
        layer = layers.get(named["layer"])
        weight = getattr(getattr(layer, "base_layer", layer), "weight", None)
        enters = (named["new"] or named["old"]) in ("A", "down")
        if weight is None or weight.shape[1 if enters else 0] != value.shape[1 if enters else 0]:
            wrong.append(named["layer"])
    if wrong:
        raise ConfigurationError(
            f"{option}: {file} belongs to another model: {len(wrong)} of its layers are not here or have "
            f"another shape, for example {wrong[0]}"
        )


def worn(adapters: Sequence[Mapping[str, Any]]) -> Worn:
    """The adapters of a job as a key."""
    return tuple((str(each["path"]), float(each["scale"])) for each in adapters)
