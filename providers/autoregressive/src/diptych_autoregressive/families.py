"""The families, in the order in which they are asked whether a checkpoint is theirs."""

from __future__ import annotations

from difflib import get_close_matches

from diptych.errors import UnknownModel

from . import chameleon, emu3, emu35, glm, janus, llamagen, mar, var
from .family import Family, Files

__all__ = ["FAMILIES", "family_of"]

FAMILIES: tuple[Family, ...] = (
    emu3.FAMILY,
    emu35.FAMILY,
    janus.FAMILY,
    var.FAMILY,
    mar.FAMILY,
    llamagen.FAMILY,
    glm.FAMILY,
    chameleon.FAMILY,
)


def family_of(files: Files) -> Family:
    """The family of a checkpoint. Raises `UnknownModel` with what would do instead."""
    for family in FAMILIES:
        if family.recognises(files):
            return family
    known = [name for family in FAMILIES for name in family.repositories()]
    if files.folder is None:
        near = get_close_matches(files.repository, known, n=3, cutoff=0.4) or known
        raise UnknownModel(
            f"nothing on this machine says what kind of model {files.ref} is; download it first (hf "
            f"download {files.repository}), or use one that is known: {', '.join(near)}",
            nearest=[f"autoregressive/{name}" for name in near],
        )
    kind = files.config.get("model_type") or files.index.get("_class_name") or "no config.json"
    raise UnknownModel(
        f"{files.ref} ({kind}) is of no family that this engine draws with; it has "
        f"{', '.join(family.name for family in FAMILIES)}"
    )
