"""The scenes that training draws from, and the edits of them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from training import edits, world

N = 8000


@pytest.fixture(scope="module")
def scenes() -> world.Scenes:
    return world.sample(N, np.random.default_rng(5))


def test_no_training_picture_has_a_held_back_combination(scenes):
    assert not world.is_held_back(scenes).any()
    assert world.is_held_back(world.sample(200, np.random.default_rng(5), held_back=True)).all()


def test_about_one_combination_in_fifty_is_held_back():
    axes = [len(table) for table in (world.SUBJECTS, world.BACKGROUNDS, world.STYLES)]
    grid = np.meshgrid(*map(np.arange, axes), indexing="ij")
    every = dict(zip(("subject", "background", "style"), (a.ravel() for a in grid), strict=True))
    assert 0.015 < world.is_held_back(every).mean() < 0.025


def test_scenes_make_sense(scenes):
    creature = scenes["subject"] < len(world.CREATURES)
    active = np.isin(scenes["relation"], [world.READING, world.HOLDING])
    assert not (active & ~creature).any()
    assert (scenes["item"] != scenes["subject"]).all()
    assert ((scenes["item"] == world.NOTHING) == (scenes["relation"] == world.NONE)).all()
    assert (scenes["wear"][scenes["relation"] == world.UNDER] == world.NOTHING).all()


def test_every_subject_background_and_style_is_drawn(scenes):
    assert set(scenes["subject"]) == set(world.SUBJECTS.tolist())
    assert len(set(scenes["background"])) == len(world.BACKGROUNDS)
    assert len(set(scenes["style"])) == len(world.STYLES)


def test_an_edit_changes_what_it_says_and_nothing_else(scenes):
    edited, kinds = edits.apply(scenes, np.random.default_rng(6))
    together = {"item": {"item", "relation"}, "wear": {"wear", "relation"}}
    for index, kind in enumerate(edits.KINDS):
        rows = kinds == index
        assert rows.any()
        assert (edited[kind] != scenes[kind])[rows].all(), kind
        for key in set(world.ATTRIBUTES) - together.get(kind, {kind}):
            assert (edited[key] == scenes[key])[rows].all(), (kind, key)
    assert (edited["jitter"] == scenes["jitter"]).all()


def test_no_edit_leads_to_a_held_back_combination(scenes):
    edited, _ = edits.apply(scenes, np.random.default_rng(6))
    assert not world.is_held_back(edited).any()


def test_an_instruction_names_what_is_new(scenes):
    edited, kinds = edits.apply(scenes, np.random.default_rng(6))
    r = random.Random(6)
    subjects = np.flatnonzero(kinds == edits.KINDS.index("subject"))
    named = 0
    for row in subjects:
        text = edits.instruction(scenes, edited, int(kinds[row]), int(row), r)
        named += any(name in text for name in world.NAMES[edited["subject"][row]])
    assert named / len(subjects) > 0.96  # a few are misspelt on purpose
