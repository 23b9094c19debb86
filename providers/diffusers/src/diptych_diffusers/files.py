"""Files beside a checkpoint: LoRAs, ControlNets, IP-Adapters. Safetensors alone, no code.

One is named by a path of this machine ("style.safetensors", "./folder"), or in a repository of the
Hub: "org/name", "org/name@revision", "org/name/folder/file.safetensors".
"""

from __future__ import annotations

from pathlib import Path

from diptych.errors import InvalidInput, UnknownModel
from diptych.local import checkpoints

__all__ = ["check_name", "found", "here", "weights_in"]

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_name(name: str, option: str) -> None:
    """Refuse, without any network, what cannot be such a file. Raises `InvalidInput`."""
    if "://" in name:
        raise InvalidInput(
            f"{option}: {name!r} is an address; download the file and give its path, or name a repository "
            "of the Hub: 'org/name'"
        )
    path = Path(name).expanduser()
    if path.suffix in PICKLED:
        raise InvalidInput(
            f"{option}: {name!r} is a pickle, which can hold code, and is not opened; convert it to "
            "safetensors"
        )
    if path.exists():
        if path.is_file() and path.suffix != ".safetensors":
            raise InvalidInput(f"{option}: {name!r} is not a .safetensors file")
        return
    if name.startswith((".", "/", "~")) or "/" not in name:
        raise InvalidInput(f"{option}: there is no file or folder {name!r}")
    _split(name, option)


def found(name: str, option: str) -> Path:
    """The file or folder, downloaded if need be. Blocks. Raises as `check_name` and `fetch` do."""
    check_name(name, option)
    path = Path(name).expanduser()
    if path.exists():
        return path
    repository, inside = _split(name, option)
    checkpoint = checkpoints.find("diffusers", repository)
    folder = checkpoint.folder
    if folder is None or (inside and not (folder / inside).exists()):
        wanted = [f"{inside}*", f"{inside}/*"] if inside else list(checkpoints.SAFE)
        safe = [each for each in wanted if not each.endswith(PICKLED)]
        folder = checkpoints.fetch(checkpoint, safe)
    return folder / inside if inside else folder


def here(name: str) -> Path | None:
    """The file or folder that `name` means, if it is on this machine. Raises nothing for bad names."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    try:
        repository, inside = _split(name, "")
    except InvalidInput:
        return None
    folder = checkpoints.find("diffusers", repository).folder
    if folder is None or not (folder / inside).exists():
        return None
    return folder / inside


def _split(name: str, option: str) -> tuple[str, str]:
    """ "org/name@revision" and the path inside it."""
    parts = name.split("/")
    repository, inside = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        checkpoints.find("diffusers", repository)
    except UnknownModel:
        repository = ""
    if not repository or ".." in parts:
        raise InvalidInput(
            f"{option}: {name!r} is no file of this machine and cannot be a repository of the Hub "
            "('org/name', 'org/name@revision', 'org/name/file.safetensors')"
        )
    return repository, inside


def weights_in(path: Path, option: str, usual: str = "pytorch_lora_weights.safetensors") -> Path:
    """The one file of weights that `path` means: itself, the usual one in a folder, or the only one."""
    if path.is_file():
        return path
    every = sorted(path.glob("*.safetensors"))
    named = [each for each in every if each.name == usual] or every
    if len(named) != 1:
        names = ", ".join(each.name for each in every) or "none"
        raise InvalidInput(
            f"{option}: {path} holds {len(every)} safetensors files ({names}); name one of them, as in "
            "'folder/file.safetensors'"
        )
    return named[0]
