"""The console sessions of the documentation are what really happens."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.testing.peers import FalPeer, OpenAIPeer

PAGE = Path(__file__).parent.parent / "docs" / "command-line.md"
SESSION = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
SENDS = re.compile(r"^diptych (generate|edit|plan|chat) ")


@pytest.mark.skipif(shutil.which("bash") is None, reason="the sessions are those of a shell")
def test_the_sessions_show_what_happens(tmp_path: Path) -> None:
    sessions = SESSION.findall(PAGE.read_text(encoding="utf-8"))
    assert sessions
    with OpenAIPeer() as openai, FalPeer() as fal:
        homes = {
            openai.base_url: "https://api.openai.com/v1",
            fal.origin: "https://queue.fal.run",
        }
        for session in sessions:
            commands = re.findall(r"^\$ (.*)$", session, re.MULTILINE)
            script = "\n".join(
                f"echo {_quoted('$ ' + each)}\n{_sent(each, openai, fal)}" for each in commands
            )
            happened = _run(script, tmp_path)
            for peer, home in homes.items():
                happened = happened.replace(peer, home)
            assert _steady(happened) == _steady(session)


def _sent(command: str, openai: OpenAIPeer, fal: FalPeer) -> str:
    """The command, sent to a peer in place of the service."""
    peer = fal.origin if "-m fal/" in command else openai.base_url
    return SENDS.sub(rf"diptych \1 --base-url {peer} ", f"{command} ".replace("chat <", "chat  <"))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _run(script: str, folder: Path) -> str:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "FAL_", "DIPTYCH_"))
    }
    here = f'diptych() {{ {_quoted(sys.executable)} -m diptych "$@"; }}\n'
    default = {"DIPTYCH_API_KEY": "test-key", "DIPTYCH_MODEL": "openai/gpt-image-2"}
    done = subprocess.run(
        ["bash", "-c", here + script],
        cwd=folder,
        env=kept | default,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def _steady(text: str) -> str:
    """Without what changes while the behaviour stays: seconds, prices, tokens, sizes of files."""
    changing = re.compile(r"\d+\.\d+ (?:s$|USD)|[\d,]+ bytes|\(\d+\)", re.MULTILINE)
    return changing.sub("N", text)
