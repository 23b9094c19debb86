"""How a family of models plugs in: what it recognises, plans, loads and draws.

A family is a module with one object of the `Family` protocol called `FAMILY`. Everything but `load`
runs while planning, so such a module imports no torch at its top; the module that does the tensor
work is imported by `load`.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diptych.cards import ModelCard
from diptych.errors import ConfigurationError, InvalidInput
from diptych.events import Preview, Progress
from diptych.image import Image
from diptych.local.checkpoints import Checkpoint, Sidecar, sidecar
from diptych.notices import Notice
from diptych.plan import State
from diptych.request import Request

if TYPE_CHECKING:
    import torch

__all__ = ["Draft", "Drawn", "Event", "Family", "Files", "Job", "Model", "Runtime", "check_whole"]

Event = Progress | Preview | None
"""What one step of drawing yields; None where there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Files:
    """What is known of a checkpoint before it is loaded.

    `names` are the files of the folder, as paths relative to it; `config` and `index` hold its
    config.json and model_index.json, {} where there is none. All are empty for a repository that is
    not on this machine. `weights` is the weight file that the client named, for folders with several.
    """

    ref: str
    checkpoint: Checkpoint
    names: frozenset[str] = frozenset()
    config: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)
    sidecar: Sidecar = field(default_factory=Sidecar)
    weights: str | None = None

    @classmethod
    def of(cls, ref: str, checkpoint: Checkpoint, weights: str | None = None) -> Files:
        """Read the small files of `checkpoint`. Raises `InvalidInput` for one that is no JSON."""
        folder = checkpoint.folder
        if folder is None:
            return cls(ref, checkpoint, weights=weights)
        paths = [*folder.iterdir(), *folder.glob("*/*")]
        names = frozenset(str(path.relative_to(folder)) for path in paths if path.is_file())
        return cls(
            ref,
            checkpoint,
            names,
            _json(folder / "config.json"),
            _json(folder / "model_index.json"),
            sidecar(folder),
            weights,
        )

    @property
    def folder(self) -> Path | None:
        """Where the files are, None for a repository that is not on this machine."""
        return self.checkpoint.folder

    @property
    def repository(self) -> str:
        """The repository of the Hub, "" for what does not come from there."""
        return self.checkpoint.repository or ""


def check_whole(files: Files) -> None:
    """Raise `ConfigurationError` when a weight file was named for a model that has one set of them."""
    if files.weights is not None:
        raise ConfigurationError(
            f"weights={files.weights!r}: {files.ref} has one set of weights; leave weights out"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} is not a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class Draft:
    """The part of a plan that a family makes.

    `payload` holds JSON values and `Image`s, and is all that drawing needs (a run has their bytes);
    `method` says in a few words what will run ("token loop").
    """

    payload: Mapping[str, Any]
    method: str
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where and how a model runs: a device that is there, the format of its weights, "exact" or "fast"."""

    device: str
    dtype: torch.dtype
    speed: str = "exact"


@dataclass(frozen=True, slots=True)
class Job:
    """One batch of pictures to draw: `seeds` has the seed of each.

    `watched` tells whether `Progress` is of use to anybody; `previews` is how many unfinished
    pictures of each to show, 0 when nobody watches.
    """

    payload: Mapping[str, Any]
    seeds: tuple[int, ...]
    watched: bool = False
    previews: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """What drawing came to. `state` carries on the conversation with the first picture."""

    pictures: tuple[Image, ...]
    state: State | None = None
    tokens: int | None = None
    passes: int | None = None
    notices: tuple[Notice, ...] = ()


class Model(Protocol):
    """Loaded weights. Used by the thread of its device alone."""

    def picture_bytes(self, payload: Mapping[str, Any]) -> int:
        """About how much memory each further picture of a batch takes while it is drawn."""

    def draw(self, job: Job) -> Generator[Event, None, Drawn]:
        """Draw a batch, one step (a token, a scale, a pass) between two yields.

        Picture k must come out as if it were drawn alone with `job.seeds[k]`. `Progress` counts the
        steps of this batch; `Preview.picture` counts the pictures of it.
        """


class Family(Protocol):
    """One family of models. `patterns` are the files of a repository that it needs."""

    name: str
    patterns: Sequence[str]

    def repositories(self) -> Sequence[str]:
        """Repositories of the Hub that are known to hold models of this family."""

    def recognises(self, files: Files) -> bool:
        """Whether these files are a model of this family; by repository name where there are none."""

    def card(self, files: Files) -> ModelCard:
        """What the model can do. Raises `UnknownModel` for files that it cannot use, and says why."""

    def plan(self, request: Request, card: ModelCard, files: Files, state: State | None) -> Draft:
        """Translate a request, as `Provider.plan` does; seeds and n are the provider's business.

        Every other option in `request.given()` must change the payload, be noticed or be refused.
        """

    def load(self, files: Files, folder: Path, runtime: Runtime) -> Model:
        """Load the weights from `folder`. Blocks; called on the thread of the device.

        Raises `InvalidInput` for weights that do not fit, and says which.
        """
