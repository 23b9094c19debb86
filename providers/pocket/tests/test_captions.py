"""The caption grammar says what is in a scene."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from training import captions, card, judge, words, world

N = 3000
PHRASINGS = Path(__file__).parent / "data" / "phrasings.toml"


@pytest.fixture(scope="module")
def scenes() -> world.Scenes:
    return world.sample(N, np.random.default_rng(8))


@pytest.fixture(scope="module")
def texts(scenes: world.Scenes) -> list[str]:
    r = random.Random(8)
    return [captions.caption(scenes, row, r) for row in range(N)]


def said(text: str, names: Iterable[str]) -> bool:
    return any(name in text for name in names)


@pytest.mark.parametrize("key", ["subject", "wear", "item"])
def test_a_caption_names_what_is_there(scenes, texts, key):
    there = scenes[key] != world.NOTHING
    right = [said(texts[row], world.NAMES[scenes[key][row]]) for row in np.flatnonzero(there)]
    assert np.mean(right) > 0.96  # a few are misspelt on purpose


def test_a_caption_names_places_and_styles(scenes, texts):
    places = np.flatnonzero(scenes["background"] >= len(world.COLOURS))
    styles = np.flatnonzero(scenes["style"] != world.PLAIN)
    place = lambda row: world.BACKGROUNDS[scenes["background"][row]]  # noqa: E731
    ways = {
        name: (*captions.PLACE_PHRASES[name], *captions.PLACE_TAGS[name]) for name in world.PLACES
    }
    assert np.mean([said(texts[row], ways[place(row)]) for row in places]) > 0.96
    forms = [sum(captions.STYLE_WORDS[style], ()) for style in world.STYLES]
    assert np.mean([said(texts[row], forms[scenes["style"][row]]) for row in styles]) > 0.96


def test_colours_are_left_out_at_times(scenes, texts):
    rows = np.flatnonzero(
        (scenes["background"] < len(world.COLOURS)) & (scenes["style"] != world.BLUEPRINT)
    )
    names = [captions.COLOUR_WORDS.get(name, (name,)) for name in world.COLOURS]
    share = np.mean([said(texts[row], names[scenes["background"][row]]) for row in rows])
    assert 0.6 < share < 0.85


def test_the_shipped_tokenizers_were_made_from_this_grammar(tmp_path):
    words.train(tmp_path / "words.json")
    made = json.loads((tmp_path / "words.json").read_text())["model"]
    folder = card.FOLDERS[0]
    for name in ("tokenizer", "tokenizer_2"):
        shipped = json.loads((folder / name / "tokenizer.json").read_text())["model"]
        assert shipped["vocab"] == made["vocab"]
        assert shipped["merges"] == made["merges"]


@pytest.mark.parametrize("folder", card.FOLDERS, ids=lambda folder: folder.name)
def test_the_cards_are_up_to_date_with_the_grammar(folder):
    shipped = card.read(folder)
    assert {key: shipped[key] for key in card.about()} == json.loads(json.dumps(card.about()))


def test_the_phrasings_are_of_this_world_and_not_of_the_grammar():
    phrasings = tomllib.loads(PHRASINGS.read_text())["phrasings"]
    names = {
        key: {judge.word(key, int(value)) for value in judge.CLASSES[key]} for key in judge.CLASSES
    }
    assert len({asked["text"] for asked in phrasings}) == 100
    for asked in phrasings:
        assert all(value in names[key] for key, value in asked.items() if key != "text")
    taught = {text.rstrip(".!").lower() for text in words.corpus(20_000, 9)}
    assert not taught & {asked["text"].rstrip(".!").lower() for asked in phrasings}
