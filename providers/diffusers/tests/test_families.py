"""The table of families: a checkpoint is recognised by its settings, without loading anything."""

from __future__ import annotations

import pytest
from diptych_diffusers.families import TASKS, facts, families, family_of, known

from . import tiny
from .conftest import Checkpoints


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_a_checkpoint_is_recognised(name: str, checkpoint: Checkpoints) -> None:
    assert family_of(facts(checkpoint(name))).name == name


def test_the_table_is_whole() -> None:
    names = {each.name for each in families()}
    assert {each.family for each in known().values()} <= names
    for each in families():
        assert set(each.tasks) <= set(TASKS), each.name
