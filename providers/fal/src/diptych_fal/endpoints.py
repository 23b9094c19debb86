"""fal's endpoints as data: reads endpoints.toml and finds the row of a model."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as made
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

from diptych.cards import EditMode
from diptych.errors import UnknownModel

__all__ = ["Endpoint", "Picture", "Size", "endpoint", "known"]

FAL = "fal-ai/"

MOST_PER_SUBMIT = 4
"""Pictures asked for in one submit. fal's types state no maximum; a submit costs the same either way."""

MOST_PICTURES = 16
"""Pictures in a list input whose maximum is not documented; fal itself refuses what is too much."""

_OWN = frozenset(
    {"defaults", "ranges", "pixels", "price", "edits", "retired", "unlisted", "partial", "note"}
)
"""What a row says of itself alone; everything else is inherited."""

_ID = re.compile(r"[A-Za-z0-9][\w.+-]*(/[A-Za-z0-9][\w.+-]*)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How a size is asked for. Limits are in pixels, as in `diptych.Sizes`."""

    field: str = ""
    write: Literal["object", "text", "aspect"] = "object"
    auto: str = ""
    aspects: tuple[str, ...] = ()
    tier_field: str = ""
    tiers: Mapping[str, str] = made(default_factory=dict)
    fixed: tuple[tuple[int, int], ...] = ()
    multiple: int = 1
    min_edge: int = 1
    max_edge: int = 0
    min_pixels: int = 0
    max_pixels: int = 0
    ratio: float = 0
    required: bool = False
    note: str = "the model chooses its size"

    @property
    def limited(self) -> bool:
        return bool(self.max_edge or self.min_pixels or self.max_pixels or self.ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An input that concerns a picture: its name and what its values mean ("" when unknown)."""

    field: str = ""
    one: Literal["", "change", "keep"] = ""
    white: Literal["", "change", "keep"] = ""
    weight: str = ""
    most: int = MOST_PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of endpoints.toml; the file says what each field means."""

    id: str
    paradigm: str = "unknown"
    takes: frozenset[EditMode] = frozenset()
    edits: Mapping[EditMode, str] = made(default_factory=dict)
    prompt: bool = True
    fields: Mapping[str, str] = made(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = made(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = made(default_factory=dict)
    formats: tuple[str, ...] = ()
    size: Size = made(default_factory=Size)
    image: str = ""
    images: str = ""
    max_images: int = MOST_PICTURES
    strength: Picture = made(default_factory=Picture)
    mask: Picture = made(default_factory=Picture)
    loras: str = ""
    controls: Literal["", "flux", "single"] = ""
    references: Picture = made(default_factory=Picture)
    expand: Mapping[str, str] = made(default_factory=dict)
    refuse: Mapping[str, str] = made(default_factory=dict)
    extra: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = made(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = made(default_factory=dict)
    pixels: tuple[int, int] | None = None
    price: Mapping[str, Any] = made(default_factory=dict)
    retired: Mapping[str, Any] = made(default_factory=dict)
    unlisted: bool = False
    partial: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """The id as diptych's users write it: without "fal-ai/" where that is not ambiguous."""
        short = self.id.removeprefix(FAL)
        return short if _id_of(short) == self.id else self.id

    @property
    def ref(self) -> str:
        return f"fal/{self.name}"

    @property
    def generates(self) -> bool:
        """Whether it works without a picture to edit. Of an unlisted endpoint nobody knows."""
        return bool(not self.takes or (self.image and self.images))

    @property
    def is_plain(self) -> bool:
        """Whether its mode can be asked for with options alone; otherwise it takes `extra=` too."""
        masked = EditMode.INPAINT not in self.takes or self.mask.white
        return bool(masked and (EditMode.OUTPAINT not in self.takes or self.expand))

    @property
    def per_submit(self) -> int:
        return MOST_PER_SUBMIT if "n" in self.fields else 1


@lru_cache(maxsize=512)
def endpoint(model: str) -> Endpoint:
    """The row of `model`, "flux-pro/v1.1" or a full endpoint id; a permissive one if it has none.

    A first part that is not a known owner is taken for one of fal's own models ("fal-ai/...").
    Raises `UnknownModel` for what cannot be an endpoint id.
    """
    id = _id_of(model)
    if id in _rows():
        return _endpoint(id)
    if not _ID.fullmatch(id):
        raise UnknownModel(
            f"{model!r} is not an endpoint of fal; copy the id from its page, for example flux-pro/v1.1"
        )
    return _made(id, {**_resolved("any"), "partial": True})


def _id_of(model: str) -> str:
    """The endpoint id that is meant by `model`."""
    rows = _rows()
    for id in (model, FAL + model):
        if "/" in id and id in rows:
            return id
    return model if model.partition("/")[0] in rows["owners"] else FAL + model


def known() -> Iterable[Endpoint]:
    """Every row of the table, the retired ones included."""
    return [_endpoint(id) for id in _rows() if "/" in id]


@cache
def _rows() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("endpoints.toml").read_text("utf-8"))


@cache
def _endpoint(id: str) -> Endpoint:
    return _made(id, _resolved(id))


def _resolved(id: str) -> dict[str, Any]:
    """The row with everything it inherits."""
    row = dict(_rows()[id])
    parent = row.pop("like", None)
    if parent is None:
        return row
    inherited = {name: value for name, value in _resolved(parent).items() if name not in _OWN}
    if "extra" in row and "extra" in inherited:
        row["extra"] = _joined(inherited["extra"], row["extra"])
    return inherited | {
        name: _merged(inherited[name], value) if name in inherited else value
        for name, value in row.items()
    }


def _merged(old: Any, new: Any) -> Any:
    if isinstance(new, dict):
        return {name: value for name, value in {**old, **new}.items() if value != ""}
    return new


def _joined(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """Two lists of `extra`; "!name" in the second takes a name of the first away."""
    return [name for name in old if f"!{name}" not in new] + [n for n in new if n[0] != "!"]


def _made(id: str, row: Mapping[str, Any]) -> Endpoint:
    """The row as an `Endpoint`; a key that is no field of it raises `TypeError`."""
    fields = {name: _tuples(value) for name, value in row.items()}
    fields["size"] = Size(**_tuples(row.get("size", {})))
    for name in ("strength", "mask", "references"):
        fields[name] = Picture(**row.get(name, {}))
    fields["takes"] = frozenset(map(EditMode, row.get("takes", ())))
    fields["edits"] = {EditMode(mode): each for mode, each in row.get("edits", {}).items()}
    fields["extra"] = frozenset(row.get("extra", ()))
    return Endpoint(id=id, **fields)


def _tuples(value: Any) -> Any:
    """TOML's lists as tuples, in tables too."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {key: _tuples(each) for key, each in value.items()} if isinstance(value, dict) else value
