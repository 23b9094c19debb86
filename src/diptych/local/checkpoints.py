"""Checkpoints: from the model part of a reference to a folder of weights.

A reference names a package's checkpoint ("diffusers/pocket"), a folder ("diffusers/./my-model",
"diffusers//data/my-model", "diffusers/~/my-model") or a repository of the Hugging Face Hub, with or
without a revision ("diffusers/org/name@main"). Finding one touches no network; fetching may.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ..errors import (
    InvalidInput,
    PermissionDenied,
    ProviderNotInstalled,
    Unavailable,
    UnknownModel,
)
from ..plugins import checkpoint as packaged

__all__ = ["SAFE", "Checkpoint", "Sidecar", "fetch", "find", "sidecar"]

SAFE = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What is downloaded from the Hub: weights without code, and settings."""

SIDECAR = "diptych.json"
_REPOSITORY = re.compile(r"([\w][\w.-]{0,95}/[\w][\w.-]{0,95})(?:@([\w][\w./-]{0,127}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a model's files are. `folder` is None for a repository that is not on this machine.

    `revision` is the branch, tag or commit that was asked for; `repository` is None for what does
    not come from the Hub.
    """

    name: str
    source: Literal["package", "folder", "hub"]
    folder: Path | None
    repository: str | None = None
    revision: str | None = None


def find(provider: str, model: str) -> Checkpoint:
    """The checkpoint that "provider/model" names, from what is on this machine.

    Raises `UnknownModel` for a folder that is not there and for what cannot be a repository.
    """
    if model.startswith((".", "/", "~")):
        folder = Path(model).expanduser()
        if not _is_folder(folder):
            raise UnknownModel(f"{provider}/{model}: there is no folder {folder}")
        return Checkpoint(model, "folder", folder)
    folder_of = None if "/" in model else _packaged(f"{provider}.{model}")
    if folder_of is not None:
        return Checkpoint(model, "package", Path(folder_of()))
    named = _REPOSITORY.fullmatch(model)
    if named is None or ".." in model:
        near = f'; for the folder write "{provider}/./{model}"' if _is_folder(Path(model)) else ""
        pocket = "; run: pip install diptych-pocket" if model == "pocket" else ""
        raise UnknownModel(
            f'{provider}/{model} is no checkpoint: write "{provider}/org/name" for a repository of the '
            f'Hub, or "{provider}/./folder" for files of your own{near}{pocket}'
        )
    repository, revision = named[1], named[2]
    return Checkpoint(model, "hub", _cached(repository, revision), repository, revision)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long to be one
        return False


@lru_cache(maxsize=64)
def _packaged(name: str) -> Any | None:
    """As `plugins.checkpoint`, which looks through every package that is installed."""
    return packaged(name)


def _cached(repository: str, revision: str | None) -> Path | None:
    """The snapshot folder in the Hub's cache, whose layout is documented, if it is there."""
    home = os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    folder = cache / f"models--{repository.replace('/', '--')}"
    commit = revision or "main"
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / commit).read_text().strip()
        except OSError:
            return None
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def fetch(checkpoint: Checkpoint, patterns: Sequence[str] = SAFE) -> Path:
    """The folder of a checkpoint, downloaded if need be. Blocks; to be called from a worker thread.

    Only files that match `patterns` are taken. Raises `UnknownModel` for a repository or revision
    that does not exist, `PermissionDenied` for a gated one, `Unavailable` when the Hub cannot be
    reached. A token is huggingface_hub's own business and goes to the Hub alone.
    """
    if checkpoint.source != "hub":
        assert checkpoint.folder is not None
        return checkpoint.folder
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ModuleNotFoundError as error:
        raise ProviderNotInstalled(
            f"{checkpoint.name} is on the Hub; run: pip install huggingface_hub"
        ) from error
    assert checkpoint.repository is not None
    try:
        return Path(
            snapshot_download(
                checkpoint.repository,
                revision=checkpoint.revision,
                allow_patterns=list(patterns),
            )
        )
    except GatedRepoError as error:
        raise PermissionDenied(
            f"{checkpoint.repository} asks for its licence to be accepted: do so on its page at "
            "huggingface.co, then run: hf auth login",
            provider="huggingface",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UnknownModel(
            f"the Hub has no repository {checkpoint.name} that you may read; check the name and the "
            "revision, or log in with: hf auth login"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise Unavailable(
            f"{checkpoint.name} is not on this machine and the Hub could not be reached "
            f"({type(error).__name__}); try again with a network, or name a folder",
            provider="huggingface",
            retryable=True,
        ) from error


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a checkpoint says of itself in `diptych.json`; any folder may carry one.

    `defaults` are settings under the engine's own names, `size` the side of a square picture in
    pixels, `known_words` the words that its training captions used (empty: not said).
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    known_words: frozenset[str] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """The words of `prompt` that the model never saw, each once, in order, lower-cased."""
        if not self.known_words:
            return ()
        words = _WORD.findall(prompt.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
        return tuple(dict.fromkeys(word for word in words if word not in self.known_words))


@lru_cache(maxsize=64)
def sidecar(folder: Path) -> Sidecar:
    """The side-car of a checkpoint folder; an empty one when it carries none."""
    path = folder / SIDECAR
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Sidecar(
            defaults=dict(value.get("defaults", {})),
            size=value.get("size"),
            known_words=frozenset(value.get("known_words", ())),
            facts=value,
        )
    except FileNotFoundError:
        return Sidecar()
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} is not a side-car file: {error}") from None
