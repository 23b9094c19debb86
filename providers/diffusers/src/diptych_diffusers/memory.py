"""Where the parts of a model are kept, chosen from their sizes and the memory that is free.

`choose` is arithmetic; `needs` reads the headers of weight files, `settle` moves modules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diptych.errors import ConfigurationError
from diptych.notices import Notice

if TYPE_CHECKING:
    import torch

__all__ = ["Needs", "Placement", "choose", "needs", "settle"]

SPARE = 1 << 30
"""Bytes that are left alone: the libraries' own buffers and what the allocator cannot hand out."""

_GROUPS = 3
"""Blocks that are on the device at once when they come in groups: one runs, two are on their way."""

_PIXEL = {"transformer": 2200, "vae": 3800}
"""Bytes of intermediate results for each pixel drawn, with weights in 16 bits: a generous bound from
the shapes of FLUX.1 (4608 tokens of width 3072 at 1024x1024) and of its VAE (256 channels at full size)."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of the parts of a model, and of the largest block of its transformer.

    `pixels` is how many are drawn at once, all pictures of a batch together.
    """

    parts: Mapping[str, int]
    block: int
    pixels: int
    width: int = 2

    def running(self, part: str) -> int:
        """Bytes of the intermediate results of `part`."""
        return _PIXEL.get(part, 0) * self.pixels * self.width // 2

    @property
    def weights(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    def halved(self) -> Needs:
        """With the transformer in eight bits instead of sixteen."""
        bits = 1 / self.width
        shrunk = {"transformer": math.ceil(self.parts.get("transformer", 0) * bits)}
        return Needs(
            {**self.parts, **shrunk}, math.ceil(self.block * bits), self.pixels, self.width
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model is kept. `peak` is about the most bytes that it takes on the device at once.

    "resident": everything stays there. "components": one part at a time comes in. "groups": the
    blocks of the transformer come in one after another. `quantised`: the transformer has eight bits.
    """

    kind: Literal["resident", "components", "groups"]
    peak: int
    quantised: bool = False
    notices: tuple[Notice, ...] = ()


def choose(needs: Needs, free: int, device: str, *, quantised: bool = False) -> Placement:
    """The fastest way to keep a model in `free` bytes of `device`.

    `quantised` says that eight bits are what the caller's speed asks for; they are never chosen
    otherwise. Raises `ConfigurationError` with the numbers when no way fits.
    """
    sizes = needs.halved() if quantised else needs
    room = free - SPARE
    ways = _ways(sizes) if device.startswith("cuda") else [_resident(sizes)]
    for kind, peak in ways:
        if peak <= room:
            return Placement(kind, peak, quantised, _notices(kind, peak, sizes, free, device))
    least = min(peak for _, peak in ways)
    halved = min(peak for _, peak in _ways(needs.halved()))
    ideas = ["draw fewer or smaller pictures at once"]
    if not quantised and device.startswith("cuda") and halved <= room:
        ideas.insert(0, f'set speed="fast", which takes {_gb(halved + SPARE)}')
    if needs.width > 2:
        ideas.insert(0, 'set dtype="bfloat16", which halves the weights')
    raise ConfigurationError(
        f"the model does not fit: its weights take {_gb(sizes.weights)}, running it takes at least "
        f"{_gb(least + SPARE)}, and {device} has {_gb(free)} free; {', or '.join(ideas)}"
    )


def _ways(needs: Needs) -> list[tuple[Literal["resident", "components", "groups"], int]]:
    parts, block = dict(needs.parts), needs.block
    transformer = parts.get("transformer", 0)
    others = max(
        (size + needs.running(name) for name, size in parts.items() if name != "transformer"),
        default=0,
    )
    running = needs.running("transformer")
    return [
        _resident(needs),
        ("components", max(transformer + running, others)),
        ("groups", max(_GROUPS * block + running, others)),
    ]


def _resident(needs: Needs) -> tuple[Literal["resident"], int]:
    return "resident", needs.weights + max(map(needs.running, needs.parts), default=0)


def _notices(kind: str, peak: int, needs: Needs, free: int, device: str) -> tuple[Notice, ...]:
    if kind == "resident":
        return ()
    how = {
        "components": "its parts take turns on the device",
        "groups": "its blocks come to the device one after another, which is several times slower",
    }[kind]
    said = (
        f"the model takes {_gb(needs.weights)} and {device} has {_gb(free)} free, so {how} "
        f"(at most {_gb(peak)} at once)"
    )
    return (Notice("assumed", said, "device"),)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def needs(folder: Path, pixels: int, width: int) -> Needs:
    """What the model in a diffusers folder needs, from the headers of its safetensors files.

    `width` is the bytes of a number in the format that it is loaded in.
    """
    parts: dict[str, int] = {}
    block = 0
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        shapes = dict(_shapes(part))
        if shapes:
            parts[part.name] = width * sum(shapes.values())
        if part.name == "transformer":
            block = width * _largest_block(shapes)
    return Needs(parts, block, pixels, width)


def _shapes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield name, math.prod(tensor["shape"])


def _largest_block(shapes: Mapping[str, int]) -> int:
    """Numbers in the largest numbered member of a list of modules, as "blocks.7.attn.weight" says."""
    sizes: dict[tuple[str, str], int] = {}
    for name, count in shapes.items():
        at = name.split(".")
        if len(at) > 2 and at[1].isdigit():
            sizes[at[0], at[1]] = sizes.get((at[0], at[1]), 0) + count
    return max(sizes.values(), default=sum(shapes.values()))


def settle(parts: Mapping[str, Any], placement: Placement, device: torch.device) -> None:
    """Put loaded parts where `placement` says, and have those that come and go do so by themselves."""
    import torch

    modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    if placement.kind == "resident":
        for module in modules.values():
            module.to(device)
        return
    if placement.kind == "groups":
        from diffusers.hooks import apply_group_offloading

        apply_group_offloading(
            modules.pop("transformer"),
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=device.type == "cuda",
        )
    _take_turns(list(modules.values()), device)


def _take_turns(modules: list[Any], device: torch.device) -> None:
    """Each module comes to the device when it runs, after the others have left it."""
    import torch
    from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped,unused-ignore]

    class Turn(ModelHook):  # type: ignore[misc]
        def pre_forward(self, module: Any, *values: Any, **named: Any) -> tuple[Any, Any]:
            if next(module.parameters()).device != device:
                for other in modules:
                    if other is not module:
                        other.to("cpu")
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                module.to(device)
            return values, named

    for module in modules:
        add_hook_to_module(module, Turn(), append=True)
