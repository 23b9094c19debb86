"""How a checkpoint is run unless the caller says otherwise. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from diptych.local.checkpoints import Sidecar

from .families import Facts, Family

__all__ = ["FlowEdit", "Recipe"]


@dataclass(frozen=True, slots=True)
class FlowEdit:
    """Settings of FlowEdit: noise level to start from, steps, guidance for either prompt, noises
    that are averaged in a step, and the noise level below which the target prompt alone is sampled."""

    change: float = 0.9
    steps: int | None = None
    source_guidance: float = 1.5
    guidance: float = 5.5
    averages: int = 1
    alone: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Defaults and limits of a checkpoint.

    `kind` is how guidance works: "embedded" tells a distilled model a number (a negative prompt then
    needs `true_cfg` beside it), "cfg" takes a second prediction with the negative prompt, "none" has
    no guidance. `length` is the most tokens of a prompt that are kept. A picture is drawn with
    `least` to `most` pixels and resized beyond; `side` is that of the square drawn by default.
    """

    kind: Literal["embedded", "cfg", "none"]
    steps: int
    guidance: float
    true_cfg: float = 4.0
    negative: str = ""
    length: int
    side: int
    least: int
    most: int
    flowedit: FlowEdit = FlowEdit()

    @classmethod
    def of(cls, family: Family, facts: Facts) -> Recipe:
        """The recipe of a family, for a checkpoint of which `facts` are known."""
        defaults = family.defaults
        side = facts.side or family.side
        return cls(
            kind=_KINDS[family.guidance],
            steps=defaults.get("steps", 28),
            guidance=defaults.get("guidance", 1.0),
            true_cfg=defaults.get("true_cfg_scale", 4.0),
            length=max(family.text.values(), default=512),
            side=side,
            least=side * side // 16,
            most=side * side * 4,
        )

    def tuned(self, sidecar: Sidecar) -> Recipe:
        """With what the checkpoint's side-car says, under the names of the diffusers arguments."""
        given = sidecar.defaults
        found: dict[str, Any] = {
            ours: given[theirs] for theirs, ours in _NAMES.items() if theirs in given
        }
        if "true_cfg_scale" in given:
            found |= {"kind": "cfg", "guidance": given["true_cfg_scale"]}
        if sidecar.size is not None:
            area = sidecar.size * sidecar.size
            found |= {"side": sidecar.size, "least": area, "most": area}
        if isinstance(edit := given.get("flowedit"), Mapping):
            found["flowedit"] = replace(self.flowedit, **edit)
        return replace(self, **found)


_KINDS: dict[str, Literal["embedded", "cfg", "none"]] = {
    "embedded": "embedded",
    "true_cfg": "cfg",
    "cfg": "cfg",
    "none": "none",
}
_NAMES = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "negative_prompt": "negative",
    "max_sequence_length": "length",
}
