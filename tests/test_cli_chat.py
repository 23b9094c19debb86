"""`diptych chat`: scripts, a person at a terminal, and what a terminal shows."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from PIL import Image as pillow
from typer.testing import CliRunner, Result

from diptych import Image
from diptych.cli.app import app, run
from diptych.testing import peers
from diptych.testing.peers import FalPeer, OpenAIPeer

FOX = "Generate a watercolor of a fox reading a book."
RACCOON = "Then make a variant where it's a raccoon."
SCRIPT = f"{FOX}\n{RACCOON}\n"


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "AZURE_OPENAI_", "FAL_", "DIPTYCH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DIPTYCH_API_KEY", "test-key")


@pytest.fixture
def openai() -> Iterator[OpenAIPeer]:
    with OpenAIPeer() as peer:
        yield peer


@pytest.fixture
def fal() -> Iterator[FalPeer]:
    with FalPeer() as peer:
        yield peer


def to_openai(peer: OpenAIPeer) -> list[str]:
    return ["chat", "-m", "openai/gpt-image-2", "--base-url", peer.base_url]


def to_fal(peer: FalPeer, model: str = "fal/flux/dev") -> list[str]:
    return ["chat", "-m", model, "--base-url", peer.origin]


def chat(arguments: list[str], script: str, *more: str) -> Result:
    return CliRunner().invoke(app, [*arguments, *more], input=script, prog_name="diptych")


def modes(result: Result) -> list[str]:
    """The mode of each turn of a transcript."""
    return re.findall(r"^(\w+): ", result.stdout, re.MULTILINE)


def files(result: Result) -> list[str]:
    return re.findall(r"^  file  (.*)$", result.stdout, re.MULTILINE)


def test_the_same_two_lines_on_both_paradigms(openai: OpenAIPeer, fal: FalPeer) -> None:
    talked = chat(to_openai(openai), SCRIPT)
    assert talked.exit_code == 0, talked.stderr
    assert modes(talked) == ["generate", "continue"]
    denoised = chat(to_fal(fal), SCRIPT)
    assert denoised.exit_code == 0, denoised.stderr
    assert modes(denoised) == ["generate", "instruct"]
    for result in (talked, denoised):
        assert f"> {FOX}\n" in result.stdout
        assert f"> {RACCOON}\n" in result.stdout
        assert result.stdout.count("  cost  ") == 2
        assert all(Image.of(name).format for name in files(result))
    assert "says  Here is the picture." in talked.stdout
    assert "note  translated: fal/flux/dev edits through fal/flux-kontext/dev" in denoised.stdout
    assert len({*files(talked), *files(denoised)}) == 4


def test_a_plan_in_between_sends_nothing(fal: FalPeer) -> None:
    result = chat(to_fal(fal), f"{FOX}\n/plan {RACCOON}\n")
    assert "fal/flux-kontext/dev: instruct" in result.stdout
    assert fal.paid_posts == 1


def test_json_is_one_document_a_turn(openai: OpenAIPeer) -> None:
    result = chat(to_openai(openai), f"{FOX}\n/plan {RACCOON}\n{RACCOON}\n", "--json")
    first, plan, second = map(json.loads, result.stdout.splitlines())
    assert (first["mode"], second["mode"]) == ("generate", "continue")
    assert plan["plan"]["mode"] == "continue"
    assert Path(second["images"][0]["path"]).exists()


def test_undo_goes_back_to_the_picture_before(fal: FalPeer) -> None:
    result = chat(to_fal(fal), f"{FOX}\n/undo\n{FOX}\n")
    assert modes(result)[:1] + modes(result)[-1:] == ["generate", "generate"]
    assert "taken back: " + FOX in result.stdout
    assert fal.count("submit") == 2


def test_a_mask_keeps_the_rest_of_the_picture(openai: OpenAIPeer) -> None:
    pillow.new("RGB", (1024, 1024), "navy").save("sea.png")
    mask = pillow.new("L", (1024, 1024))
    mask.paste(255, (0, 0, 512, 1024))
    mask.save("left half.png")
    result = chat(to_openai(openai), "/mask 'left half.png' it's a raccoon\n", "--image", "sea.png")
    assert result.exit_code == 0, result.stderr
    (name,) = files(result)
    edited = Image.of(name).pil().convert("RGB")
    assert edited.crop((512, 0, 1024, 1024)).getcolors() == [(512 * 1024, (0, 0, 128))]
    assert edited.getpixel((100, 100)) != (0, 0, 128)


def test_a_saved_conversation_goes_on_later_and_elsewhere(openai: OpenAIPeer, fal: FalPeer) -> None:
    saved = chat(to_openai(openai), f"{FOX}\n/save talk.json\n")
    assert saved.exit_code == 0
    going_on = chat(to_openai(openai), f"/load talk.json\n{RACCOON}\n")
    assert "continue: " in going_on.stdout
    elsewhere = chat(to_fal(fal), f"/load talk.json\n{RACCOON}\n")
    assert "instruct: " in elsewhere.stdout
    refused = chat(to_openai(openai), "/save talk.json\n")
    assert refused.exit_code == 2
    assert len(json.loads(Path("talk.json").read_text())["turns"]) == 1
    assert chat(to_openai(openai), "/save talk.json\n", "--force").exit_code == 0


def test_the_model_can_be_changed_within_its_provider(fal: FalPeer) -> None:
    result = chat(to_fal(fal), f"{FOX}\n/model fal/flux-2-pro\n/plan {RACCOON}\n")
    assert result.exit_code == 0, result.stderr
    assert "model: fal/flux-2-pro" in result.stdout


def test_another_providers_model_does_not_inherit_the_address(fal: FalPeer) -> None:
    result = chat(to_fal(fal), f"{FOX}\n/model openai/gpt-image-2\n")
    assert result.exit_code == 3  # no key for it, and the one for the address stays there
    assert "OPENAI_API_KEY" in result.stderr


def test_flags_apply_to_every_turn_and_those_of_editing_to_edits(fal: FalPeer) -> None:
    result = chat(
        to_fal(fal), f"{FOX}\nA raccoon in the snow.\n", "--seed", "5", "--mode", "img2img",
        "--change", "0.5",
    )  # fmt: skip
    assert modes(result) == ["generate", "img2img"], result.stderr
    assert [each.json["seed"] for each in fal.requests if each.kind == "submit"] == [5, 5]


def test_a_script_stops_at_the_first_error(openai: OpenAIPeer) -> None:
    openai.fault(peers.status(500), on="responses", after=1)
    result = chat(to_openai(openai), f"{FOX}\n{RACCOON}\nMake it blue.\n")
    assert result.exit_code == 4
    assert "Unavailable" in result.stderr
    assert openai.count("responses") == 2
    assert "Make it blue" not in result.stdout


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("/nonsense", 2),
        ("/undo", 2),
        ("/plan", 2),
        ("/mask file.png", 2),
        ("/mask 'open", 2),
        ("/model gpt-image-2", 3),
        ("/load nowhere.json", 1),
        ("/save /nowhere/talk.json", 1),
        ("/quit", 0),
        ("/help", 0),
        ("", 0),
    ],
)
def test_commands_that_cannot_be_done_say_so(openai: OpenAIPeer, line: str, code: int) -> None:
    result = chat(to_openai(openai), f"{line}\n")
    assert result.exit_code == code
    assert (result.stderr != "") == (code != 0)
    assert openai.requests == []


def test_quit_ends_the_script(openai: OpenAIPeer) -> None:
    assert chat(to_openai(openai), f"/quit\n{FOX}\n").exit_code == 0
    assert openai.requests == []


@pytest.mark.skipif(sys.platform == "win32", reason="an interrupt is no signal there")
def test_an_interrupt_ends_a_script() -> None:
    with (
        OpenAIPeer(delay=60) as openai,
        subprocess.Popen(
            [sys.executable, "-m", "diptych", *to_openai(openai)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(SCRIPT)
        process.stdin.flush()
        openai.wait_for("responses", timeout=30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "interrupted" in err
        assert "Traceback" not in err
        assert openai.count("responses") == 1


# At a terminal


class Screen(io.TextIOWrapper):
    """Output that says it is a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


class Keyboard(io.StringIO):
    """Input that says it is a terminal: lines, or what a key raises, and then the end."""

    def __init__(self, *lines: str | BaseException) -> None:
        super().__init__()
        self.lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # typeshed asks for the bytes of its base class
        line = self.lines.pop(0) if self.lines else ""
        if isinstance(line, BaseException):
            raise line
        return line


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command at a terminal where somebody types lines."""

    def at_terminal(arguments: list[str], *lines: str | BaseException) -> tuple[int, str, str]:
        out, err = Screen(), Screen()
        with monkeypatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            patched.setattr(sys, "stdin", Keyboard(*lines))
            patched.setenv("COLUMNS", "200")
            code = run(arguments)
        return code, out.text(), err.text()

    return at_terminal


def test_a_person_is_greeted_told_of_errors_and_goes_on(
    openai: OpenAIPeer, typing: Callable[..., tuple[int, str, str]]
) -> None:
    openai.fault(peers.status(500), times=1)
    code, out, err = typing(
        to_openai(openai), "/help\n", f"{FOX}\n", KeyboardInterrupt(), f"{FOX}\n"
    )
    assert code == 0
    assert "openai/gpt-image-2; /help" in out
    assert "/mask FILE TEXT" in out
    assert "Unavailable" in err
    assert "/quit leaves" in out
    assert Image.of(re.findall(r"file  (.*)", out)[0]).format == "png"


def test_a_terminal_shows_progress(typing: Callable[..., tuple[int, str, str]]) -> None:
    with FalPeer(delay=1.5) as fal:
        code, out, err = typing(["generate", FOX, *to_fal(fal)[1:], "-o", "fox"])
    assert code == 0
    assert "fal/flux/dev" in err
    assert "painting" in err  # what the peer logs while it works
    assert out == "fox.jpeg\n"


def test_a_terminal_shows_tables(typing: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = typing(["models", "openai"])
    assert code == 0
    assert "RETIRED 2026-05-12" in out
    assert "\t" not in out


def test_picture_bytes_are_kept_off_a_terminal(
    openai: OpenAIPeer, typing: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = typing(["generate", FOX, *to_openai(openai)[1:], "-o", "-"])
    assert code == 2
    assert "redirect" in err
    assert openai.requests == []
