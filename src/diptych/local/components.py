"""Components of a diffusers folder: safetensors only, no code from the folder.

Class names in a folder's files are looked up in a table of the engine and never imported by name.
A table maps them to a module, or to "module:Class" where another class than the one named is used.
"""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    import torch

__all__ = ["class_of", "component", "index", "weights"]

_LIGHT = ("Tokenizer", "Scheduler", "Processor", "Extractor")
"""Parts of class names of components without weights."""


def index(folder: Path) -> dict[str, Any]:
    """The `model_index.json` of a folder. Raises `InvalidInput` for what is not one."""
    path = folder / "model_index.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder} is no diffusers folder: {path.name}: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("_class_name"), str):
        raise InvalidInput(
            f"{path} names no pipeline class; folders with code of their own do not run"
        )
    return value


def component(folder: Path, name: str, dtype: torch.dtype, classes: Mapping[str, str]) -> Any:
    """Load one component of a diffusers folder, on the CPU, with an explicit `dtype`.

    None when the folder has none of that name. Raises `ConfigurationError` for a class that is not
    among `classes`, and for files that are missing or not safetensors.
    """
    entry = index(folder).get(name)
    if entry is None or entry[1] is None:
        return None
    kind = entry[1]
    part = folder / name
    if kind not in classes:
        raise ConfigurationError(
            f"{folder}: {name} is a {kind}, which is not among the classes that are loaded"
        )
    if not part.is_dir():
        raise ConfigurationError(f"{folder} lacks {name}/: the checkpoint is incomplete")
    if any(word in kind for word in _LIGHT):
        try:
            with _quiet():
                return class_of(kind, classes).from_pretrained(part, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{part} cannot be loaded as a {kind}: {error}") from None
    return weights(part, kind, dtype, classes)


def weights(folder: Path, kind: str, dtype: torch.dtype, classes: Mapping[str, str]) -> Any:
    """The module of class `kind` in `folder`, on the CPU. Raises `ConfigurationError` for pickles."""
    if not any(folder.glob("*.safetensors")):
        raise ConfigurationError(
            f"{folder} holds no safetensors file; pickled weights (.bin, .pt) are not loaded, because "
            "they can hold code: convert them first"
        )
    with _quiet():
        return (
            class_of(kind, classes)
            .from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
            .eval()
        )


def class_of(kind: str, classes: Mapping[str, str]) -> Any:
    """The class that a table of the engine has for a name. Raises `KeyError` for one it has not."""
    module, _, other = classes[kind].partition(":")
    return getattr(importlib.import_module(module), other or kind)


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries log and warn about what is not the user's doing while a model loads."""
    from transformers.utils import logging as bars

    logger, shown = logging.getLogger("diffusers"), bars.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()
