"""`diptych compare` against both peers: the sheet, the table, and what a failure leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diptych import Image
from diptych.cli.app import app
from diptych.testing import peers
from diptych.testing.peers import FalPeer, OpenAIPeer

KEY = "canary-compare-5d1"
FOX = "a watercolor of a fox reading a book"
MODELS = "openai/gpt-image-2,fal/flux-pro/v1.1"


@pytest.fixture(autouse=True)
def _somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "FAL_", "DIPTYCH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DIPTYCH_API_KEY", KEY)


@pytest.fixture
def both():
    with OpenAIPeer(key=KEY) as openai, FalPeer(key=KEY) as fal:
        yield openai, fal


def compare(both, *arguments, models=MODELS):
    openai, fal = both
    at = ["--base-url", f"openai={openai.base_url}", "--base-url", f"fal={fal.origin}"]
    command = ["compare", FOX, "--models", models, *at, *arguments]
    result = CliRunner().invoke(app, command, prog_name="diptych")
    assert KEY not in result.output
    return result


def lines(result):
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_a_column_for_each_model_and_a_row_for_each_message(both):
    result = compare(both, "--edit", "make it a raccoon", "-o", "sheet.png")
    assert result.exit_code == 0, result.output
    *table, last = lines(result)
    assert [(row[0], row[2]) for row in table] == [
        ("openai/gpt-image-2", "generate"),
        ("openai/gpt-image-2", "continue"),
        ("fal/flux-pro/v1.1", "generate"),
        ("fal/flux-pro/kontext", "instruct"),
    ]
    assert last == ["sheet.png"]
    once = compare(both, "-o", "once.png")
    assert once.exit_code == 0
    assert Image.of("sheet.png").size[1] > Image.of("once.png").size[1]
    assert Image.of("sheet.png").size[0] == Image.of("once.png").size[0]


def test_without_edits_no_chat_model_is_paid(both):
    openai, _ = both
    result = compare(both)
    assert result.exit_code == 0
    assert [request.kind for request in openai.requests] == ["generate"]
    assert lines(result)[-1] == ["a-watercolor-of-a-fox-reading-a-book.png"]
    assert lines(result)[0][4].endswith("USD (computed)")


def test_the_pictures_can_be_kept_as_they_came(both):
    Path("all").mkdir()
    result = compare(both, "--edit", "make it a raccoon", "--keep", "all", "--json")
    told = json.loads(result.stdout)
    paths = [
        image["path"]
        for model in told["models"]
        for turn in model["turns"]
        for image in turn["images"]
    ]
    assert len(set(paths)) == 4
    assert all(Image.of(path).size != Image.of(told["sheet"]).size for path in paths)
    assert [model["error"] for model in told["models"]] == [None, None]


def test_a_model_that_fails_does_not_take_the_others_along(both):
    openai, _ = both
    openai.fault(peers.moderation_blocked("input", ["violence"]))
    result = compare(both, "--edit", "make it a raccoon", "-o", "sheet.png")
    assert result.exit_code == 5
    assert "ContentBlocked" in result.stderr
    *table, last = lines(result)
    assert [row[2] for row in table] == ["-", "generate", "instruct"]
    assert table[0][6].startswith("ContentBlocked")
    assert last == ["sheet.png"]


def test_where_nothing_came_there_is_no_sheet(both):
    openai, fal = both
    openai.fault(peers.status(500))
    fal.fault(peers.status(500))
    result = compare(both, "-o", "sheet.png")
    assert result.exit_code == 4
    assert not Path("sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "models", "told"),
    [
        (("--negative-prompt", "a book"), MODELS, "negative_prompt"),
        ((), "openai/gpt-image-2,", "--models"),
        (("--base-url", "http://127.0.0.1:9"), MODELS, "PROVIDER=URL"),
        ((), "openai/gpt-image-2", "no model of fal"),
        (("-o", "-"), MODELS, "name a file"),
        (("-o", "sheet.gif"), MODELS, "png, jpeg or webp"),
        (("--keep", "nowhere"), MODELS, "no folder"),
        (("--budget", "0.01"), MODELS, "budget"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(both, arguments, models, told):
    result = compare(both, *arguments, models=models)
    assert result.exit_code == 2
    assert told in result.stderr
    assert [len(peer.requests) for peer in both] == [0, 0]
