"""The examples run as they stand, against the loopback peers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image as Pillow

from diptych import Image
from diptych.testing.peers import FalPeer, OpenAIPeer

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def openai(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with OpenAIPeer() as peer:
        yield {"api_key": peer.key, "base_url": peer.base_url}


@pytest.fixture
def fal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with FalPeer() as peer:
        yield {"api_key": peer.key, "base_url": peer.origin}


def test_generate(openai, tmp_path, capsys):
    example("generate").main(**openai)
    assert Image.of(tmp_path / "fox.png").size == (1024, 1024)
    assert "USD (computed)" in capsys.readouterr().out


def test_conversation(openai, fal, tmp_path, capsys):
    converse = example("conversation").converse
    converse("openai/gpt-image-2", **openai)
    converse("fal/flux-pro/v1.1", **fal)
    converse("autoregressive/pocket")
    printed = capsys.readouterr().out
    assert "autoregressive/pocket: continue" in printed
    assert "openai/gpt-image-2: continue" in printed
    assert "fal/flux-pro/kontext: instruct" in printed
    assert Image.of(tmp_path / "raccoon-fal.jpeg").width > 0


def test_inpaint(fal, tmp_path, capsys):
    Pillow.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "photo.png")
    example("inpaint").main("photo.png", "a red balloon", **fal)
    assert "changed inside (32, 0, 64, 32) of (64, 64)" in capsys.readouterr().out


def test_jobs(fal, tmp_path):
    jobs = example("jobs")
    handle = jobs.submit("a fox", **fal)
    assert fal["api_key"] not in handle
    jobs.resume(handle, **fal)
    assert Image.of(tmp_path / "resumed.jpeg").width > 0


def test_stream(openai, tmp_path, capsys):
    example("stream").main("a fox in the snow", **openai)
    assert Image.of(tmp_path / "preview-1.png").width > 0
    assert Image.of(tmp_path / "streamed.png").width > 0


def test_many(openai, tmp_path, capsys):
    example("many").main(**openai)
    assert {path.name for path in tmp_path.iterdir()} == {
        "fox.png",
        "raccoon.png",
        "otter.png",
        "badger.png",
    }
    assert "of 1.00" in capsys.readouterr().out


def test_demo_needs_neither_key_nor_network(tmp_path):
    bare = {name: value for name, value in os.environ.items() if not name.endswith("KEY")}
    bare |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "empty")}
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        cwd=tmp_path,
        env=bare,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "autoregressive/pocket: continue" in ran.stdout
    assert "diffusers/pocket: invert" in ran.stdout
    assert Image.of(tmp_path / "out" / "demo.png").width == 816
