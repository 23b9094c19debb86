"""The shipped folders are what their cards say. Nothing here needs torch."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import entry_points
from pathlib import Path

import diptych_pocket
import pytest

from diptych import ImageClient

FOLDERS = {
    "diffusers.pocket": diptych_pocket.diffusion(),
    "autoregressive.pocket": diptych_pocket.autoregressive(),
}
folders = pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
models = pytest.mark.parametrize("model", [name.replace(".", "/") for name in FOLDERS])


@folders
def test_every_weight_file_has_the_checksum_on_the_card(folder):
    card = json.loads((folder / "diptych.json").read_text())
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.safetensors")
    }
    assert files == card["sha256"]


def test_the_checkpoints_are_small_and_hold_no_pickle():
    files = [path for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_file()]
    weights = [path.stat().st_size for path in files if path.suffix == ".safetensors"]
    assert sum(weights) <= 64 * 2**20
    assert {path.suffix for path in files} == {".safetensors", ".json"}


def test_the_checkpoints_are_registered():
    registered = {entry.name: entry.load()() for entry in entry_points(group="diptych.checkpoints")}
    assert {name: registered.get(name) for name in FOLDERS} == FOLDERS


def unknown(model: str, prompt: str) -> list[str]:
    """The words that a plan says the model does not know."""
    with ImageClient(model) as client:
        notices = client.plan(prompt).notices
    return [word for notice in notices for word in re.findall("'([^ ]+)'", notice.message)]


@models
@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a portrait of a physicist", ["physicist"]),
        (
            "An oil painting of the Eiffel Tower by van Gogh",
            ["oil", "eiffel", "tower", "van", "gogh"],
        ),
        ("two dogs", ["two", "dogs"]),
    ],
)
def test_words_that_were_never_in_a_caption_are_noticed(model, prompt, words):
    assert unknown(model, prompt) == words


@models
@pytest.mark.parametrize(
    "prompt",
    [
        "Generate a watercolor of a fox reading a book.",
        "Then make a variant where it's a raccoon.",
        "my cat, in 8-bit, 4k, please",
        "Could you paint us an airplane at sunset?",
        "He's a jack-o-lantern with sunglasses, and there is snow",
    ],
)
def test_plain_requests_are_not_noticed(model, prompt):
    assert unknown(model, prompt) == []


def test_the_readme_says_what_the_cards_say():
    from training import card, figures

    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    tables = figures.lines(*map(card.read, card.FOLDERS))
    assert len(tables) > 40
    assert "\n".join(tables) in readme
