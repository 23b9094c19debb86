"""ControlNets of Z-Image, which are published as one file without settings.

They borrow layers of the transformer that they steer, so its settings are theirs too. What is left is
told by the tensors, for the published shapes alone: nothing in a file says which layers of the
transformer its blocks belong to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImageControlNetModel
from torch import Tensor

from diptych.errors import ConfigurationError

__all__ = ["from_file"]

_EVERY = {6: 5, 15: 2}
"""Control blocks of the first edition and of 2.0 and 2.1: each steers one of so many layers."""

_BLOCK = re.compile(r"control_layers\.(\d+)\..+")
_INPUT = re.compile(r"control_all_x_embedder\.(\d+)-(\d+)\.weight")
_REFINER = "control_noise_refiner."
_SHARED = (
    "all_patch_size",
    "all_f_patch_size",
    "dim",
    "n_refiner_layers",
    "n_heads",
    "n_kv_heads",
    "norm_eps",
    "qk_norm",
)


def from_file(file: Path, transformer: Any, dtype: torch.dtype) -> Any:
    """The ControlNet in `file`, for `transformer`, on the CPU.

    Raises `ConfigurationError` for a file of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(file)
        shared = {name: transformer.config[name] for name in _SHARED}
        config = _config(state, shared["n_refiner_layers"])
        with torch.device("meta"):
            net = ZImageControlNetModel(**config, **shared)
        if config["add_control_noise_refiner"] == "control_layers":
            state = {name: each for name, each in state.items() if not name.startswith(_REFINER)}
        net.load_state_dict({name: each.to(dtype) for name, each in state.items()}, assign=True)
    except (SafetensorError, OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{file} is no ControlNet for this model: {str(error)[:300]}"
        ) from None
    return net.eval()


def _config(state: Mapping[str, Tensor], refiners: int) -> dict[str, Any]:
    blocks = len({found[1] for name in state if (found := _BLOCK.fullmatch(name))})
    if blocks not in _EVERY:
        raise LookupError(
            f"it has {blocks} control blocks, and it is known which layers {' or '.join(map(str, _EVERY))} "
            "steer; name a folder whose config.json says it"
        )
    (first,) = [name for name in state if _INPUT.fullmatch(name)]
    patch, frames = map(int, _INPUT.fullmatch(first).groups())  # type: ignore[union-attr]
    later = blocks == max(_EVERY)
    return {
        "control_layers_places": [each * _EVERY[blocks] for each in range(blocks)],
        "control_refiner_layers_places": [*range(refiners)] if later else [],
        "control_in_dim": state[first].shape[1] // (patch * patch * frames),
        "add_control_noise_refiner": _refiner(state) if later else None,
    }


def _refiner(state: Mapping[str, Tensor]) -> str:
    """2.1 refines with blocks of its own; those in the files of 2.0 were never trained."""
    before = state.get(f"{_REFINER}0.before_proj.weight")
    return "control_layers" if before is None or not before.any() else "control_noise_refiner"
