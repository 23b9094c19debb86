"""How a checkpoint is run unless the caller says otherwise. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from diptych.errors import ConfigurationError

from .cards import Described

__all__ = ["EXTRA", "FlowEdit", "Recipe"]


@dataclass(frozen=True, slots=True)
class FlowEdit:
    """How a model edits between two descriptions.

    `change` is the noise level from which it starts, `steps` how many are run (None: as many as a
    generation), `source_guidance` and `guidance` act on the two prompts, `averages` noises are
    averaged in a step, and in the last `alone` steps the target is sampled by itself.
    """

    change: float = 0.9
    steps: int | None = None
    source_guidance: float = 1.5
    guidance: float = 4.5
    averages: int = 1
    alone: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Defaults and limits of a checkpoint.

    `kind` is how guidance works: "embedded" tells a distilled model a number (a negative prompt then
    needs `true_cfg` beside it), "cfg" takes a second prediction with the negative prompt, "none" has
    no guidance. `length` is the most tokens of a prompt that are kept. A picture is drawn on a grid
    of `multiple` pixels, with `least` to `most` of them, and resized beyond; `side` is that of the
    square drawn by default.
    """

    kind: Literal["embedded", "cfg", "none"]
    steps: int
    guidance: float
    true_cfg: float = 4.0
    negative: str = ""
    length: int
    multiple: int
    side: int
    least: int
    most: int
    flowedit: FlowEdit = FlowEdit()

    @classmethod
    def of(cls, model: Described, extra: Mapping[str, Any]) -> Recipe:
        """The recipe of a checkpoint, with what a caller says in `extra`.

        A checkpoint whose side-car names its size was trained on that many pixels alone.
        """
        kind, own, defaults = model.family, model.own.defaults, model.defaults
        area = model.side**2
        trained_once = model.own.size is not None
        edit = replace(_FLOWEDIT.get(kind.name, FlowEdit()), **_settings(own, model))
        return cls(
            kind="cfg" if kind.guidance == "true_cfg" else kind.guidance,
            steps=defaults.get("steps", 28),
            guidance=defaults.get("guidance", 1.0),
            true_cfg=extra.get("true_cfg_scale", defaults.get("true_cfg_scale", 4.0)),
            negative=own.get("negative_prompt", ""),
            length=extra.get(
                "max_sequence_length",
                own.get("max_sequence_length", max(kind.text.values(), default=512)),
            ),
            multiple=kind.multiple,
            side=model.side,
            least=area if trained_once else area // 16,
            most=area if trained_once else area * 4,
            flowedit=edit,
        )


EXTRA = frozenset({"true_cfg_scale", "max_sequence_length"})
"""What `extra` may hold for a loop of our own."""

_FLOWEDIT = {
    "flux": FlowEdit(change=0.95, steps=24, source_guidance=1.5, guidance=5.5),
    "sd3": FlowEdit(change=0.85, steps=33, source_guidance=3.5, guidance=13.5),
}
"""The authors' settings for FLUX.1 dev and SD 3; their n_max of N steps as a noise level."""


def _settings(own: Mapping[str, Any], model: Described) -> Mapping[str, Any]:
    found = own.get("flowedit", {})
    if not isinstance(found, Mapping) or not set(found) <= set(FlowEdit.__slots__):
        raise ConfigurationError(
            f"{model.checkpoint.name}: flowedit in its side-car may hold {', '.join(FlowEdit.__slots__)}"
        )
    return found
