"""Cards: what a checkpoint can do, from its settings or from what is known of its repository.

No weights, no torch, no network; a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diptych.cards import EditMode, ModelCard, Option, Paradigm, refused
from diptych.errors import ConfigurationError, UnsupportedOption
from diptych.local.checkpoints import Checkpoint, Sidecar, find, sidecar
from diptych.plugins import checkpoint as packaged
from diptych.sizes import Sizes

from .families import Facts, Family, Known, Task, facts, family_at, known

__all__ = [
    "Described",
    "card_of",
    "cards",
    "describe",
    "extra_of",
    "for_mode",
    "is_native",
    "task_of",
]

PROVIDER = "diffusers"
SOURCE = "diffusers 0.42.1's source and the checkpoint's own settings"
TABLE = "diffusers 0.42.1's source and what the publisher of the checkpoint says, 2026-11"
LONGEST = 4096
"""The longest side that is drawn, in pixels, where the checkpoint sets no limit of its own."""

ADAPTED = ("ip_adapter", "image_encoder", "redux")
"""Names in `extra` for files or repositories that make a reference readable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model before anything is loaded. `facts` is None when it is not on this machine yet."""

    checkpoint: Checkpoint
    family: Family
    facts: Facts | None
    known: Known
    own: Sidecar
    card: ModelCard

    @property
    def side(self) -> int:
        """Side in pixels of the square that is drawn when no size is given."""
        configured = None if self.facts is None else self.facts.side
        return self.own.size or self.known.size or configured or self.family.side

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Steps, guidance and so on: the side-car's, the publisher's, the family's."""
        found = dict(self.family.defaults)
        if self.sigmas:
            found["steps"] = len(self.sigmas)
        for name in ("steps", "guidance"):
            if (value := getattr(self.known, name)) is not None:
                found[name] = value
        own = self.own.defaults
        if "num_inference_steps" in own:
            found["steps"] = own["num_inference_steps"]
        argument = self.family.guidance_argument()
        if argument in own:
            found["guidance"] = own[argument]
        return found

    @property
    def sigmas(self) -> Sequence[float] | None:
        """The noise levels that the checkpoint was distilled to run at, when it names them."""
        return None if self.facts is None else self.facts.settings.get("sample_sigmas")

    @property
    def control(self) -> str | None:
        """The kind of control image that the checkpoint was trained on, when that is known."""
        kind = self.own.facts.get("control")
        return kind if isinstance(kind, str) else self.known.control


def card_of(checkpoint: Checkpoint) -> ModelCard:
    """The card of a checkpoint. Raises as `describe` does."""
    return describe(checkpoint).card


def describe(checkpoint: Checkpoint) -> Described:
    """What is known of a checkpoint that was found.

    Raises `UnknownModel` for a folder that is no checkpoint, `InvalidInput` for one that cannot be
    read and `ConfigurationError` for a pipeline that cannot be run here.
    """
    ref = f"{PROVIDER}/{checkpoint.name}"
    row = known().get(checkpoint.repository or "")
    read = None if checkpoint.folder is None else facts(checkpoint.folder)
    kind = family_at(checkpoint)
    if read is not None:
        _check_parts(kind, read, ref)
    own = Sidecar() if checkpoint.folder is None else sidecar(checkpoint.folder)
    empty = ModelCard(ref=ref, paradigm=Paradigm.DIFFUSION)
    found = Described(
        checkpoint=checkpoint,
        family=kind,
        facts=read,
        known=row or Known(family=kind.name),
        own=own,
        card=empty,
    )
    return replace(found, card=_card(found, ref))


_SPARED = frozenset({"tokenizer_3", "text_encoder_3"})
"""Parts that Stable Diffusion 3 does without."""


def _check_parts(kind: Family, read: Facts, ref: str) -> None:
    """A pipeline without one of these fails in the middle of a picture, or draws from nothing."""
    text = [(name, name.replace("tokenizer", "text_encoder")) for name in kind.text]
    needed = {"vae", "scheduler", *(part for pair in text for part in pair)} - _SPARED
    missing = sorted(needed - read.components)
    if kind.known and missing:
        raise ConfigurationError(
            f"{ref} lacks {', '.join(missing)}, without which {kind.title} does not work; use a whole "
            "checkpoint"
        )


def cards() -> Iterator[ModelCard]:
    """The cards of the repositories that diptych knows, and of the pocket model when it is there."""
    if packaged(f"{PROVIDER}.pocket") is not None:
        yield card_of(find(PROVIDER, "pocket"))
    for name in known():
        yield card_of(find(PROVIDER, name))


def _card(model: Described, ref: str) -> ModelCard:
    kind = model.family
    return ModelCard(
        ref=ref,
        paradigm=Paradigm.HYBRID if kind.name == "glm-image" else Paradigm.DIFFUSION,
        generates=kind.generates,
        needs_control=kind.needs_control,
        edits=_edits(model),
        options=_options(model),
        sizes=_sizes(model),
        max_references=_references(kind),
        max_n=64,
        streams=True,
        source=SOURCE if model.facts is not None else TABLE,
        known=kind.known,
        note=_note(model),
    )


def _note(model: Described) -> str:
    if model.family.known:
        cannot = [f"no {task}: {why}" for task, why in model.family.cannot.items()]
        return "; ".join([model.family.title, *cannot])
    if model.facts is None:
        return "not on this machine: what it can do is known once it is downloaded"
    return f"{model.facts.pipeline} is not in diptych's table; it is run as text to image"


_MODES: dict[Task, EditMode] = {
    "img2img": EditMode.IMG2IMG,
    "inpaint": EditMode.INPAINT,
    "instruct": EditMode.INSTRUCT,
    "control_img2img": EditMode.IMG2IMG,
    "control_inpaint": EditMode.INPAINT,
}


def _edits(model: Described) -> frozenset[EditMode]:
    kind = model.family
    modes = {_MODES[task] for task in kind.tasks if task in _MODES}
    if kind.native:
        modes.add(EditMode.INVERT)
    if kind.concat and model.control == "canny":  # edges are all that is computed here
        modes.add(EditMode.CONTROL)
    return frozenset(modes)


def _sizes(model: Described) -> Sizes:
    longest = None if model.facts is None else model.facts.max_side
    return Sizes(kind="free", max_edge=min(longest or LONGEST, LONGEST), budget=model.side**2)


def _references(kind: Family) -> int:
    return kind.references or (1 if kind.ip_adapter else 0)


def _options(model: Described) -> dict[str, Option]:
    kind, defaults = model.family, model.defaults
    options = {
        "n": Option(note="drawn here; picture k is the one that seed + k gives alone"),
        "seed": Option(),
        "size": Option(
            note=f"drawn on a grid of {kind.multiple} pixels, cut to the size asked for"
        ),
        "aspect": Option(),
        "steps": Option(low=1, high=999, default=defaults.get("steps")),
        "format": Option(choices=("png",)),
        "previews": Option(low=0, high=100, note="unfinished pictures; they cost a decoding each")
        if kind.previews
        else refused("its unfinished latents cannot be shown"),
        "quality": refused("a checkpoint has no quality levels; use steps=, or another checkpoint"),
        "background": refused("it draws no transparency"),
        "extra": Option(note=f"{', '.join(extra_of(kind))}, under diffusers' names"),
        "guidance": Option(low=0, high=100, default=defaults.get("guidance"))
        if kind.guidance != "none"
        else refused("it is distilled to run without guidance, and would ignore the number"),
        "negative_prompt": _negative(kind),
    }
    edits = _edits(model)
    if EditMode.IMG2IMG in edits or EditMode.INPAINT in edits:
        options["change"] = Option(low=0, high=1, note="the part of the noise that is added")
    if EditMode.INPAINT in edits:
        options["mask"] = Option(note="white is painted; the rest is put back")
        options["expand"] = Option(note="the border is inpainted")
    if kind.lora:
        options["adapters"] = Option(note="LoRA files, folders or Hub repositories in safetensors")
    if kind.native_references:
        options["references"] = Option(note="read beside the picture; they have no weight")
    elif kind.ip_adapter:
        options["references"] = Option(
            note="by an IP-Adapter (FLUX.1: or Redux): extra={'ip_adapter': file or repository}"
        )
    if kind.concat:
        options["controls"] = Option(note="one control image, read at full strength")
    elif kind.controlnet:
        options["controls"] = Option(
            note="ControlNets (FLUX.1 dev: or a control LoRA): Control(kind, image, path=repository)"
        )
    return options | {name: refused(why) for name, why in kind.refuse.items()}


def _negative(kind: Family) -> Option:
    if kind.guidance == "embedded" and kind.negative:
        return Option("translated", note="a second prediction with true_cfg_scale, twice the work")
    if kind.negative:
        return Option(note="acts where guidance is above 1")
    return refused("its guidance is built in and takes no negative prompt; describe what to show")


def extra_of(kind: Family) -> tuple[str, ...]:
    """The names that `extra` may hold for a family."""
    names = [*kind.passes, *(["scheduler"] if kind.samplers else [])]
    if kind.ip_adapter and not kind.native_references:
        names += ["ip_adapter", "image_encoder"]
        names += ["redux"] if kind.name.startswith("flux") else []
    return tuple(names)


_CHANGED = frozenset({EditMode.IMG2IMG, EditMode.INPAINT, EditMode.INVERT})


def for_mode(model: Described, mode: EditMode | None) -> ModelCard:
    """The card once the mode is known: options that the mode cannot take are refused."""
    card, kind = model.card, model.family
    options = dict(card.options)
    if mode not in _CHANGED and "change" in options:
        options["change"] = refused(
            f"{'text to image' if mode is None else mode} replaces the whole picture; change is for "
            "mode='img2img' and for masks"
            if EditMode.IMG2IMG in card.edits
            else "it follows instructions without a degree of change"
        )
    if "controls" in options and not _controlled(kind, mode):
        options["controls"] = refused(f"{card.ref} takes none with mode={mode and str(mode)!r}")
    if mode is EditMode.INVERT:
        options["references"] = refused("inversion works between two descriptions alone")
    return replace(card, options=options)


def _controlled(kind: Family, mode: EditMode | None) -> bool:
    needed = {
        None: "control",
        EditMode.IMG2IMG: "control_img2img",
        EditMode.INPAINT: "control_inpaint",
        EditMode.CONTROL: "control",
    }
    return needed.get(mode) in kind.tasks


def task_of(kind: Family, mode: str, has_controls: bool) -> Task:
    """The task for a mode ("generate" or an `EditMode`) of a family.

    Raises `UnsupportedOption` when the family has none, with what it has.
    """
    name = "control" if mode == "control" or (has_controls and mode == "generate") else mode
    if has_controls and mode in ("img2img", "inpaint"):
        name = f"control_{mode}"
    for task in kind.tasks:
        if task == name:
            return task
    if f"control_{name}" in kind.tasks or (name == "generate" and "control" in kind.tasks):
        raise UnsupportedOption(
            f"{kind.title} draws after a control image; give controls=[Control(kind, image)]",
            option="controls",
        )
    if (why := kind.cannot.get(name)) is not None:
        raise UnsupportedOption(f"{kind.title} cannot do {name}: {why}", option="mode")
    able = ", ".join(kind.tasks)
    raise UnsupportedOption(f"{kind.title} cannot do {name}; it has {able}", option="mode")


def is_native(kind: Family, task: str, *, controls: bool, references: bool) -> bool:
    """Whether the denoising loop of our own draws it; the stock pipeline draws the rest."""
    own = ("generate", "img2img", "inpaint", "invert")
    return bool(kind.native) and task in own and not controls and not references
