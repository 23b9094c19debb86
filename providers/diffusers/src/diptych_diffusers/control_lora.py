"""Control LoRAs: adapters that make FLUX.1 dev read a control image beside the latents. No torch.

Such a file has weights for an input layer of twice the width, which the header of a safetensors file
tells without its weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.errors import InvalidInput

from .cards import Described
from .families import Known, family, known
from .files import here, weights_in

__all__ = ["BECOMES", "following", "is_control_lora"]

BECOMES = {"flux": "flux-control"}
"""The families that take control LoRAs, and how they are run with one."""

_PUBLISHED = {
    "black-forest-labs/FLUX.1-Canny-dev-lora": "black-forest-labs/FLUX.1-Canny-dev",
    "black-forest-labs/FLUX.1-Depth-dev-lora": "black-forest-labs/FLUX.1-Depth-dev",
}
"""Control LoRAs that are known before they are downloaded, and the whole models with their settings."""

_CHANNELS = 64
"""Channels of FLUX.1's packed latents, for a model that is not on this machine yet."""

_INPUT = re.compile(
    r"(?:.*\.)?(?:x_embedder|img_in|lora_unet_img_in)\.(?:lora_A|lora_down|lora\.down)(?:\.default)?\.weight"
)
"""The first half of an adapter for the input layer, under the names of diffusers, its authors and Kohya."""

_LONGEST = 100_000_000
"""Bytes that a header may have, as the format says."""


def following(model: Described, controls: Sequence[Mapping[str, Any]]) -> Described | None:
    """How a model is run when a control LoRA is among `controls`; None when none is.

    Tasks, options and defaults are then those of checkpoints that read a control image themselves.
    """
    paths = [each["path"] for each in controls if each.get("path") is not None]
    name = next((each for each in paths if is_control_lora(model, each)), None)
    if name is None or model.family.name not in BECOMES:
        return None
    kind = BECOMES[model.family.name]
    row = known().get(_PUBLISHED.get(_repository(name), ""), Known(family=kind))
    title = f"{model.family.title} with a control LoRA"
    return replace(model, family=replace(family(kind), title=title), known=row)


def is_control_lora(model: Described, name: str) -> bool:
    """Whether `name`, a file, folder or repository, is a control LoRA for the latents of `model`.

    One that is not on this machine is none, unless it is known.
    """
    kind = model.family
    if not kind.name.startswith("flux") or kind.name.startswith("flux2") or kind.concat:
        return False
    if _repository(name) in _PUBLISHED:
        return True
    place = here(name)
    if place is None or (place / "config.json").is_file():
        return False
    channels = None if model.facts is None else model.facts.channels
    return any(
        _INPUT.fullmatch(key) and shape[1:] == [2 * (channels or _CHANNELS)]
        for key, shape in _shapes(place).items()
    )


def _repository(name: str) -> str:
    """ "org/name" of "org/name@revision/file"."""
    return "/".join(name.split("/")[:2]).partition("@")[0]


def _shapes(place: Path) -> Mapping[str, list[int]]:
    """The shapes of the tensors in a safetensors file, or in the one that a folder means.

    Nothing for what cannot be read; whoever opens the file tells why.
    """
    try:
        with weights_in(place, "controls").open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length) if length <= _LONGEST else "{}")
        return {name: header[name]["shape"] for name in header if name != "__metadata__"}
    except (InvalidInput, OSError, ValueError, KeyError, TypeError):
        return {}
