"""The shipped folders are what their cards say. Nothing here needs torch."""

import hashlib
import json
from importlib.metadata import entry_points
from pathlib import Path

import diptych_pocket
import pytest

FOLDERS = {
    "diffusers.pocket": diptych_pocket.diffusion(),
    "autoregressive.pocket": diptych_pocket.autoregressive(),
}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_every_weight_file_has_the_checksum_on_the_card(folder: Path) -> None:
    card = json.loads((folder / "diptych.json").read_text())
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.safetensors")
    }
    assert files == card["sha256"]


def test_the_weights_are_small_enough_to_ship() -> None:
    assert (
        sum(
            path.stat().st_size
            for folder in FOLDERS.values()
            for path in folder.rglob("*.safetensors")
        )
        <= 64 * 2**20
    )


def test_only_safetensors_and_text_are_shipped() -> None:
    kinds = {
        path.suffix for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_file()
    }
    assert kinds == {".safetensors", ".json"}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_the_card_says_how_to_notice_unknown_words(folder: Path) -> None:
    known = set(json.loads((folder / "diptych.json").read_text())["known_words"])
    assert {"fox", "raccoon", "watercolor", "reading", "book"} <= known
    assert not known & {"physicist", "portraiture"}


def test_the_checkpoints_are_registered() -> None:
    registered = {entry.name: entry.load()() for entry in entry_points(group="diptych.checkpoints")}
    assert {name: registered.get(name) for name in FOLDERS} == FOLDERS
