"""The families of diffusion models, as data: reads families.toml and tells a checkpoint's family.

Needs the JSON files of a checkpoint alone: no weights, no torch, a few milliseconds.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from diptych.errors import ConfigurationError, InvalidInput, UnknownModel
from diptych.local.checkpoints import Checkpoint, sidecar

__all__ = [
    "TASKS",
    "Facts",
    "Family",
    "Known",
    "Task",
    "facts",
    "family",
    "family_at",
    "family_of",
    "known",
    "takes",
]

Task = Literal[
    "generate", "img2img", "inpaint", "instruct", "control", "control_img2img", "control_inpaint"
]
TASKS: tuple[Task, ...] = (
    "generate",
    "img2img",
    "inpaint",
    "instruct",
    "control",
    "control_img2img",
    "control_inpaint",
)
"""What a pipeline is asked to do. Those with "control" take a control image beside the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the settings of a checkpoint say, with the defaults of the classes that read them.

    `pipeline` is the `_class_name` of its index. `inputs` is what the denoiser reads: the latents
    alone, a picture of the same size beside them, or that and a mask; `channels` is how many numbers that
    is at each place, where its settings say. `scheduler` is the class of its scheduler. `true_cfg`: its
    side-car sets a true guidance.
    `side` is the side in pixels of the square it was configured for, `max_side` the longest that
    its position table holds; None where nothing says so. `components` are the parts that are there,
    `settings` what the index says beside them.
    """

    pipeline: str
    inputs: Literal["plain", "doubled", "masked"] = "plain"
    channels: int | None = None
    guidance_embeds: bool = False
    scheduler: str = ""
    use_dynamic_shifting: bool = False
    is_distilled: bool = False
    requires_aesthetics_score: bool = False
    true_cfg: bool = False
    side: int | None = None
    max_side: int | None = None
    components: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One row of families.toml; the file says what each field means."""

    name: str
    title: str
    pipelines: tuple[str, ...] = ()
    when: Mapping[str, Any] = field(default_factory=dict)
    native: str = ""
    tasks: Mapping[Task, str] = field(default_factory=dict)
    guidance: Literal["embedded", "true_cfg", "cfg", "none"] = "cfg"
    negative: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    multiple: int = 16
    side: int = 1024
    steps_run: Literal["ceil", "floor", "all"] = "ceil"
    text: Mapping[str, int] = field(default_factory=dict)
    references: int = 0
    native_references: bool = False
    proportions: int = 0
    alpha: bool = False
    controlnet: str = ""
    concat: bool = False
    lora: bool = True
    ip_adapter: bool = False
    previews: bool = True
    passes: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()
    always: Mapping[str, Any] = field(default_factory=dict)
    cannot: Mapping[str, str] = field(default_factory=dict)
    refuse: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether it was described; the family of any other pipeline is a guess."""
        return self.name != "unknown"

    @property
    def generates(self) -> bool:
        """Whether it makes a picture from a text alone."""
        return "generate" in self.tasks

    @property
    def needs_control(self) -> bool:
        """Whether it makes a picture from a text and a control image, and from no text alone."""
        return "control" in self.tasks and not self.generates

    def guidance_argument(self) -> str:
        """What the stock call names the number that `guidance` means; "" when it has none."""
        return {"true_cfg": "true_cfg_scale", "none": ""}.get(self.guidance, "guidance_scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A row of hub.toml: what is known of a repository before it is downloaded."""

    family: str
    size: int | None = None
    steps: int | None = None
    guidance: float | None = None
    control: str | None = None


@cache
def known() -> Mapping[str, Known]:
    """The repositories of the Hub that diptych knows, by their id."""
    rows = tomllib.loads((files(__package__) / "hub.toml").read_text("utf-8"))
    return {name: Known(**row) for name, row in rows.items()}


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files(__package__) / "families.toml").read_text("utf-8"))


@cache
def family(name: str) -> Family:
    """The family that families.toml calls `name`."""
    row = _resolved(name)
    row.pop("like", None)
    for each in fields(Family):
        if isinstance(row.get(each.name), list):
            row[each.name] = tuple(row[each.name])
    return Family(name=name, **row)


def _resolved(name: str) -> dict[str, Any]:
    row = dict(_rows()[name])
    if "like" not in row:
        return row
    inherited = _resolved(row["like"])
    inherited.pop("when", None)
    return inherited | row


@cache
def _calls() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = json.loads(
        (files(__package__) / "calls.json").read_text("utf-8")
    )
    return found


def takes(pipeline: str) -> frozenset[str]:
    """The arguments of a stock pipeline's call, as diffusers 0.42.1 has them; empty if not listed."""
    return frozenset(_calls().get(pipeline, {}).get("call", ()))


@cache
def families() -> tuple[Family, ...]:
    """Every family, those that demand most of a checkpoint first."""
    every = [family(name) for name in _rows() if name != "refused"]
    return tuple(sorted(every, key=lambda each: -len(each.when)))


def family_of(facts: Facts) -> Family:
    """The family of a checkpoint; the family "unknown" for a pipeline that no row names.

    Raises `ConfigurationError` for a pipeline that cannot be run here, with the reason.
    """
    reason = _rows()["refused"].get(facts.pipeline)
    if reason is not None:
        raise ConfigurationError(f"{facts.pipeline} cannot be run: {reason}")
    for each in families():
        matches = all(getattr(facts, name) == value for name, value in each.when.items())
        if facts.pipeline in each.pipelines and matches:
            return each
    return family("unknown")


def family_at(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint that was found, on this machine or known by its repository.

    A repository that is neither has the family "unknown" until it is downloaded. Raises as `facts`
    and `family_of` do.
    """
    row = known().get(checkpoint.repository or "")
    if row is not None:
        return family(row.family)
    return family("unknown") if checkpoint.folder is None else family_of(facts(checkpoint.folder))


@lru_cache(maxsize=64)
def facts(folder: Path) -> Facts:
    """Read the settings of a checkpoint folder.

    Raises `UnknownModel` for a folder without a pipeline's index, `InvalidInput` for one that
    cannot be read, and `ConfigurationError` for one that asks for code of its own.
    """
    index = _json(folder / "model_index.json")
    if index is None:
        index = _json(folder / "modular_model_index.json")
    if index is None:
        raise UnknownModel(
            f"{folder} is no diffusers checkpoint: it has no model_index.json; convert a single file with "
            "the pipeline's from_single_file and save_pretrained"
        )
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise ConfigurationError(
            f"{folder / 'model_index.json'} names the pipeline {name!r}: a pipeline that brings code of its "
            "own is not run; use a checkpoint of one of diffusers' own pipelines"
        )
    present = frozenset(
        part for part, value in index.items() if _names_a_class(value) and value[1] is not None
    )
    body = next((part for part in ("transformer", "unet") if part in present), None)
    denoiser = (_json(folder / body / "config.json") or {}) if body is not None else {}
    scheduler = _json(folder / "scheduler" / "scheduler_config.json") or {}
    own = sidecar(folder)
    side, longest = _sides(body, denoiser, _factor(folder))
    return Facts(
        pipeline=name,
        inputs=_inputs(denoiser),
        channels=denoiser.get("in_channels"),
        guidance_embeds=bool(denoiser.get("guidance_embeds", False)),
        scheduler=str(scheduler.get("_class_name", "")),
        use_dynamic_shifting=bool(scheduler.get("use_dynamic_shifting", False)),
        is_distilled=bool(index.get("is_distilled", False)),
        requires_aesthetics_score=bool(index.get("requires_aesthetics_score", False)),
        true_cfg="true_cfg_scale" in own.defaults,
        side=own.size or side,
        max_side=longest,
        components=present,
        settings={
            part: value
            for part, value in index.items()
            if not part.startswith("_") and value is not None and not _names_a_class(value)
        },
    )


def _names_a_class(value: Any) -> bool:
    """Whether an entry of an index is a part, as [library, class], or one that is left out."""
    return isinstance(value, list) and len(value) == 2 and not isinstance(value[1], int | float)


def _inputs(denoiser: Mapping[str, Any]) -> Literal["plain", "doubled", "masked"]:
    """By the channels that go in and come out: 64 and 64 for FLUX.1 dev, 128 and 64 for Canny."""
    enter, leave = denoiser.get("in_channels"), denoiser.get("out_channels")
    if not isinstance(enter, int) or not isinstance(leave, int) or enter < 2 * leave:
        return "plain"
    return "doubled" if enter == 2 * leave else "masked"


def _sides(
    body: str | None, denoiser: Mapping[str, Any], factor: int
) -> tuple[int | None, int | None]:
    """The configured side in pixels and the longest side, where the denoiser's settings tell."""
    sample, patch = denoiser.get("sample_size"), denoiser.get("patch_size", 1)
    table = denoiser.get("pos_embed_max_size")
    if denoiser.get("_class_name") == "AuraFlowTransformer2DModel":
        # Its table counts all patches of a square, and its size is a default of the class.
        sample, table = None, math.isqrt(table) if isinstance(table, int) else None
    side = sample * factor if isinstance(sample, int) else None
    longest = table * patch * factor if isinstance(table, int) and isinstance(patch, int) else None
    return side, longest


def _factor(folder: Path) -> int:
    """Pixels along a side per latent."""
    vae = _json(folder / "vae" / "config.json") or {}
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels")
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list) else 8


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} must hold a JSON object")
    return value
