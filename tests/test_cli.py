"""The command line against the loopback peers: files, documents, exit codes, keys."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from diptych import Image, plugins
from diptych.cli.app import app, run
from diptych.plugins import BUILTIN
from diptych.testing import peers
from diptych.testing.peers import FalPeer, OpenAIPeer, Request

CANARY = "canary-8f1b2c"
FOX = "a watercolor of a fox reading a book"
FOX_FILE = "a-watercolor-of-a-fox-reading-a-book.png"
ESCAPES = "\x1b]0;owned\x07fine\x1b[31m \u202ewords\x9b2J"


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, and an environment without anybody's keys."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "AZURE_OPENAI_", "FAL_", "DIPTYCH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DIPTYCH_API_KEY", CANARY)


@pytest.fixture
def openai() -> Iterator[OpenAIPeer]:
    with OpenAIPeer(key=CANARY) as peer:
        yield peer


@pytest.fixture
def fal() -> Iterator[FalPeer]:
    with FalPeer(key=CANARY) as peer:
        yield peer


def at(peer: OpenAIPeer | FalPeer, model: str | None = None) -> list[str]:
    """The flags that send a command to a peer."""
    if isinstance(peer, OpenAIPeer):
        return ["-m", model or "openai/gpt-image-2", "--base-url", peer.base_url]
    return ["-m", model or "fal/flux/dev", "--base-url", peer.origin]


def diptych(*arguments: str, input: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(app, list(arguments), input=input, prog_name="diptych")
    assert CANARY not in result.output, "a key was printed"
    assert "Traceback" not in result.stderr
    return result


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "diptych", *arguments]


def document(result: Result) -> dict[str, Any]:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


# Where pictures go


def test_a_picture_goes_to_a_new_file_named_after_the_prompt(openai: OpenAIPeer) -> None:
    first = diptych("generate", FOX, *at(openai))
    second = diptych("generate", FOX, *at(openai))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == f"{FOX_FILE}\n"
    assert second.stdout == f"{FOX_FILE.replace('.png', '-2.png')}\n"
    assert Image.of(FOX_FILE).size == (1024, 1024)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A fox!", "a-fox.png"),
        ("../../etc/passwd", "etc-passwd.png"),
        ("it's \x1b[31mred\n", "its-31mred.png"),
        ("狐狸 и лиса", "狐狸-и-лиса.png"),
        ("?!", "picture.png"),
        ("x" * 300, f"{'x' * 40}.png"),
    ],
)
def test_names_from_prompts_are_short_and_stay_in_the_folder(
    openai: OpenAIPeer, prompt: str, name: str
) -> None:
    result = diptych("generate", prompt, *at(openai))
    assert result.exit_code == 0
    assert [path.name for path in Path().iterdir()] == [name]


def test_several_pictures_are_numbered(openai: OpenAIPeer) -> None:
    result = diptych("generate", FOX, *at(openai), "--n", "3", "-o", "fox.png")
    assert result.stdout.split() == ["fox-1.png", "fox-2.png", "fox-3.png"]
    assert len({Path(name).read_bytes() for name in result.stdout.split()}) == 3


@pytest.mark.parametrize(("output", "taken"), [("fox.png", "fox.png"), ("fox", "fox.webp")])
def test_a_taken_name_is_refused_before_anything_is_sent(
    openai: OpenAIPeer, output: str, taken: str
) -> None:
    Path(taken).write_bytes(b"mine")
    result = diptych("generate", FOX, *at(openai), "-o", output)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert Path(taken).read_bytes() == b"mine"
    assert openai.requests == []


def test_a_taken_number_is_refused_too(openai: OpenAIPeer) -> None:
    Path("fox-2.png").write_bytes(b"mine")
    assert diptych("generate", FOX, *at(openai), "--n", "2", "-o", "fox.png").exit_code == 2
    assert openai.requests == []


def test_force_overwrites(openai: OpenAIPeer) -> None:
    Path("fox.png").write_bytes(b"mine")
    assert diptych("generate", FOX, *at(openai), "-o", "fox.png", "--force").exit_code == 0
    assert Image.of("fox.png").format == "png"


def test_a_folder_gets_a_named_picture(openai: OpenAIPeer) -> None:
    Path("out").mkdir()
    result = diptych("generate", FOX, *at(openai), "-o", "out")
    assert result.stdout == f"{Path('out') / FOX_FILE}\n"


def test_the_suffix_asks_for_the_format_and_that_is_said(openai: OpenAIPeer) -> None:
    result = diptych("generate", FOX, *at(openai), "-o", "fox.jpg")
    assert openai.last("generate").json["output_format"] == "jpeg"
    assert "format=jpeg" in result.stderr
    assert Image.of("fox.jpg").format == "jpeg"


def test_no_suffix_asks_for_no_format(openai: OpenAIPeer) -> None:
    result = diptych("generate", FOX, *at(openai), "-o", "fox")
    assert "output_format" not in openai.last("generate").json
    assert result.stdout == "fox.png\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-o", "fox.bmp"),
        ("-o", "fox.txt"),
        ("-o", "nowhere/fox.png"),
        ("-o", "fox.png", "--format", "webp"),
        ("-o", "-", "--n", "2"),
        ("-o", "-", "--json"),
        ("--previews", "2"),
        ("--preview-dir", "."),
        ("--previews", "2", "--preview-dir", "nowhere"),
    ],
)
def test_an_impossible_place_is_refused_before_anything_is_sent(
    openai: OpenAIPeer, arguments: tuple[str, ...]
) -> None:
    assert diptych("generate", FOX, *at(openai), *arguments).exit_code == 2
    assert openai.requests == []
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody may write")
def test_a_folder_that_cannot_be_written_is_found_before_anything_is_sent(
    openai: OpenAIPeer,
) -> None:
    result = diptych("generate", FOX, *at(openai), "-o", "/proc/fox.png")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert openai.requests == []


def meanwhile(peer: OpenAIPeer, act: Callable[[], object]) -> None:
    """Do something in the folder while the peer works on the request."""

    def seen(request: Request) -> bool:
        act()
        return False

    peer.fault(peers.status(500), on=seen)


def test_a_paid_picture_survives_its_folder(openai: OpenAIPeer) -> None:
    Path("out").mkdir()
    meanwhile(openai, lambda: shutil.rmtree("out"))
    result = diptych("generate", FOX, *at(openai), "-o", "out/fox.png", "--quiet")
    assert result.exit_code == 0
    where = result.stdout.strip()
    assert Path(where) == Path.cwd() / "fox.png"
    assert where in result.stderr
    assert Image.of(where).size == (1024, 1024)


def test_a_file_that_appears_meanwhile_is_not_overwritten(openai: OpenAIPeer) -> None:
    meanwhile(openai, lambda: Path("fox.png").write_bytes(b"mine"))
    result = diptych("generate", FOX, *at(openai), "-o", "fox.png", "--quiet")
    assert result.stdout == "fox-2.png\n"
    assert "fox-2.png" in result.stderr
    assert Path("fox.png").read_bytes() == b"mine"


def test_a_picture_of_another_format_is_kept_as_it_came(openai: OpenAIPeer) -> None:
    openai.fault(peers.other_picture(), on="generate")
    result = diptych("generate", FOX, *at(openai), "-o", "fox.png")
    assert result.exit_code == 0
    name = result.stdout.strip()
    assert name != "fox.png"
    assert Path(name).suffix == f".{Image.of(name).format}"
    assert "its name does not end in .png" in result.stderr


def test_stdout_gets_the_bytes_and_nothing_else(openai: OpenAIPeer) -> None:
    result = diptych("generate", FOX, *at(openai), "-o", "-")
    assert Image.of(result.stdout_bytes).format == "png"
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_stdout_loses_no_picture(openai: OpenAIPeer) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("generate", FOX, *at(openai), "-o", "-"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "picture.png" in done.stderr
    assert Image.of("picture.png").format == "png"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_stdout_does_not_hide_where_a_picture_is(
    openai: OpenAIPeer, more: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("generate", FOX, *at(openai), "-o", "fox.png", *more),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "saved: fox.png" in done.stderr
    assert Image.of("fox.png").format == "png"


def test_a_picture_can_come_from_stdin(openai: OpenAIPeer) -> None:
    made = diptych("generate", FOX, *at(openai), "-o", "-").stdout_bytes
    result = diptych("edit", "-", "make it a raccoon", *at(openai), input=made)
    assert result.stdout == "make-it-a-raccoon.png\n"
    assert openai.count("edit") == 1


def test_previews_are_saved_where_asked(openai: OpenAIPeer) -> None:
    Path("drafts").mkdir()
    result = diptych(
        "generate", FOX, *at(openai), "-o", "fox.png", "--previews", "2", "--preview-dir", "drafts"
    )
    assert result.exit_code == 0
    assert result.stdout == "fox.png\n"
    drafts = sorted(Path("drafts").iterdir())
    assert [path.name for path in drafts] == ["fox-preview-1-1.png", "fox-preview-1-2.png"]
    assert all(str(path) in result.stderr for path in drafts)


# Documents


def test_the_document_of_a_result(openai: OpenAIPeer) -> None:
    result = diptych("generate", FOX, *at(openai), "--n", "2", "-o", "fox.png", "--json")
    told = document(result)
    assert list(told) == [
        "model", "mode", "why", "images", "previews", "text", "cost", "usage", "notices",
        "request_id", "timings", "plan",
    ]  # fmt: skip
    assert told["model"] == "openai/gpt-image-2"
    assert told["mode"] == "generate"
    assert [each["path"] for each in told["images"]] == ["fox-1.png", "fox-2.png"]
    for each in told["images"]:
        saved = Image.of(each["path"])
        assert (each["width"], each["height"]) == saved.size
        assert each["sha256"] == saved.sha256
        assert each["format"] == saved.format
    assert set(told["cost"]) == {"amount", "currency", "source", "price_version"}
    assert told["request_id"].startswith("req_")
    assert told["plan"]["calls"][0]["payload"]["n"] == 2


def test_seeds_are_in_the_document(fal: FalPeer) -> None:
    told = document(diptych("generate", FOX, *at(fal), "--n", "2", "--seed", "7", "--json"))
    assert [each["seed"] for each in told["images"]] == [7, 8]


def test_notices_and_words_go_to_stderr_unless_quiet(fal: FalPeer) -> None:
    diptych("generate", FOX, *at(fal), "-o", "fox.png")
    edit = ("edit", "fox.png", "make it a raccoon", *at(fal))
    assert "kontext" in diptych(*edit).stderr
    assert diptych(*edit, "--quiet").stderr == ""


def test_a_dry_run_sends_nothing_and_writes_nothing(openai: OpenAIPeer, fal: FalPeer) -> None:
    picture = Image.of(peer_picture(openai))
    for peer in (openai, fal):
        sent = len(peer.requests)
        dry = diptych("generate", FOX, *at(peer), "--dry-run")
        assert dry.exit_code == 0
        assert FOX in dry.stdout
        planned = document(diptych("plan", FOX, *at(peer), "--json"))
        assert planned["calls"][0]["payload"]["prompt"] == FOX
        before = set(Path().iterdir())
        edit = diptych("edit", "given.png", "make it a raccoon", *at(peer), "--dry-run", "--json")
        assert document(edit)["mode"] == "instruct"
        same = diptych("plan", "make it a raccoon", "--image", "given.png", *at(peer), "--json")
        assert document(same) == document(edit)
        assert picture.sha256 in same.stdout
        assert len(peer.requests) == sent
        assert set(Path().iterdir()) == before


def peer_picture(peer: OpenAIPeer) -> Path:
    """A picture to edit, in a file."""
    result = diptych("generate", "a fox", *at(peer), "-o", "given.png", "--quiet")
    assert result.exit_code == 0
    return Path("given.png")


def test_every_option_of_the_library_is_a_flag() -> None:
    from diptych.cli.flags import CLIENT, EDIT, FILES, GENERATE
    from diptych.options import EditOptions

    flags = {flag.name for flag in (*CLIENT, *GENERATE, *EDIT, *FILES)}
    named = {"reference": "references", "lora": "adapters", "control": "controls"}
    assert set(EditOptions.__annotations__) <= {named.get(flag, flag) for flag in flags}


def test_flags_reach_the_payload(fal: FalPeer) -> None:
    told = document(
        diptych(
            "plan", FOX, *at(fal, "fal/flux-general"), "--json",
            "--n", "2", "--size", "512x768", "--seed", "3", "--guidance", "4.5", "--steps", "20",
            "--lora", "https://example.com/style.safetensors:0.5",
            "--extra", "enable_safety_checker=false", "--extra", "scheduler=euler",
        )
    )  # fmt: skip
    payload = told["calls"][0]["payload"]
    assert payload["prompt"] == FOX
    assert payload["seed"] == 3
    assert payload["guidance_scale"] == 4.5
    assert payload["num_inference_steps"] == 20
    assert payload["image_size"] == {"width": 512, "height": 768}
    assert payload["loras"] == [{"path": "https://example.com/style.safetensors", "scale": 0.5}]
    assert payload["enable_safety_checker"] is False
    assert payload["scheduler"] == "euler"


def test_pictures_in_flags_reach_the_plan(openai: OpenAIPeer, fal: FalPeer) -> None:
    given = Image.of(peer_picture(openai))
    referring = diptych("plan", FOX, *at(openai), "--reference", "given.png", "--json")
    assert given.sha256 in referring.stdout
    steered = diptych(
        "plan", FOX, *at(fal, "fal/flux-general"), "--control", "canny=given.png:0.4", "--json"
    )
    assert given.sha256 in steered.stdout
    assert "0.4" in steered.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--n", "many"),
        ("--n", "0"),
        ("--size", "large"),
        ("--budget", "much"),
        ("--expand", "wide"),
        ("--mask", "mask.png"),
        ("--control", "canny"),
        ("--control", "blurry=given.png"),
        ("--extra", "novalue"),
        ("--extra", "a=1", "--extra", "a=2"),
        ("--setting", "api_key=sk-1"),
        ("--setting", "timeout=3"),
        ("--no-such-flag",),
    ],
)
def test_wrong_flags_exit_with_2_and_say_why(
    openai: OpenAIPeer, arguments: tuple[str, ...]
) -> None:
    code = run(["plan", FOX, *at(openai), *arguments])
    assert code == 2
    assert openai.requests == []


def test_wrong_usage_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "--json"]) == 2
    caught = capsys.readouterr()
    assert json.loads(caught.out)["error"]["type"] == "UsageError"
    assert "PROMPT" in caught.err


def test_a_picture_by_url_is_fetched_for_a_mask_but_not_for_a_plan(openai: OpenAIPeer) -> None:
    from PIL import Image as pillow

    peer_picture(openai)
    mask = pillow.new("L", Image.of("given.png").size)
    mask.paste(255, (0, 0, 300, 300))
    mask.save("mask.png")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as web:
        serving = threading.Thread(target=web.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{web.server_port}/given.png"
        edit = ("edit", url, "a red ball", *at(openai), "--mask", "mask.png", "-o", "ball.png")
        refused = diptych(*edit, "--dry-run")
        done = diptych(*edit)
        web.shutdown()
        serving.join()
    assert refused.exit_code == 2
    assert "downloads nothing" in refused.stderr
    assert done.exit_code == 0, done.stderr
    edited, given = Image.of("ball.png").pil(), Image.of("given.png").pil()
    assert edited.getpixel((900, 900)) == given.getpixel((900, 900))
    assert edited.getpixel((5, 5)) != given.getpixel((5, 5))


# Errors


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        (peers.status(401), 4, "AuthenticationFailed"),
        (peers.status(403), 4, "PermissionDenied"),
        (peers.status(500), 4, "Unavailable"),
        (peers.billing_limit(), 4, "QuotaExhausted"),
        (peers.truncated_json(), 4, "MalformedResponse"),
        (peers.moderation_blocked(), 5, "ContentBlocked"),
        (peers.reset(), 7, "OutcomeUnknown"),
    ],
)
def test_errors_have_an_exit_code_a_paragraph_and_a_document(
    openai: OpenAIPeer, fault: peers.Fault, code: int, kind: str
) -> None:
    openai.fault(fault)
    result = diptych("generate", FOX, *at(openai), "--max-retries", "0", "--json")
    assert result.exit_code == code
    error = document(result)["error"]
    assert error["type"] == kind
    assert error["provider"] == "openai"
    assert error["handle"] is None
    assert result.stderr.startswith("diptych: ")
    assert result.stderr.count("\n") == 1
    assert kind in result.stderr
    assert list(Path().iterdir()) == []


def test_what_moderation_said_is_in_the_document(openai: OpenAIPeer) -> None:
    openai.fault(peers.moderation_blocked("input", ["violence"]))
    error = document(diptych("generate", FOX, *at(openai), "--json"))["error"]
    assert error["stage"] == "input"
    assert error["categories"] == ["violence"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("generate", FOX), "NoDefaultModel"),
        (("generate", FOX, "-m", "openai/gpt-image-2"), "MissingCredentials"),
        (("generate", FOX, "-m", "opneai/gpt-image-2"), "UnknownModel"),
        (("describe", "gpt-image-2"), "UnknownModel"),
        (("generate", FOX, "-m", "diffusers/pocket"), "ProviderNotInstalled"),
    ],
)
def test_a_wrong_set_up_exits_with_3(
    arguments: tuple[str, ...], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a machine without the local engines and the pocket models.
    monkeypatch.setitem(sys.modules, "diptych_diffusers", None)
    plugins.load.cache_clear()  # other tests may have loaded it
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    result = diptych(*arguments, "--json")
    assert result.exit_code == 3
    assert document(result)["error"]["type"] == kind


def test_a_retired_model_exits_with_3_and_names_its_successor(openai: OpenAIPeer) -> None:
    result = diptych("generate", FOX, *at(openai, "openai/dall-e-3"), "--json")
    assert result.exit_code == 3
    error = document(result)["error"]
    assert error["type"] == "RetiredModel"
    assert error["shutdown"] == "2026-05-12"
    assert error["successor"] in result.stderr
    assert openai.requests == []


def test_a_budget_exits_with_2_before_anything_is_sent(fal: FalPeer) -> None:
    result = diptych("generate", FOX, *at(fal), "--budget", "0.001", "--json")
    assert result.exit_code == 2
    assert document(result)["error"]["type"] == "BudgetExceeded"
    assert fal.requests == []


def test_traceback_shows_where_and_no_key(openai: OpenAIPeer) -> None:
    openai.fault(peers.status(401))
    arguments = ["generate", FOX, *at(openai), "--traceback"]
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert run(arguments) == 4


def test_a_deadline_exits_with_6_and_the_job_can_be_resumed() -> None:
    with FalPeer(key=CANARY, delay=2.0) as fal:
        late = diptych("generate", FOX, *at(fal), "--timeout", "1", "--json")
        assert late.exit_code == 6
        handle = document(late)["error"]["handle"]
        assert f"diptych resume {handle}" in late.stderr
        result = diptych("resume", handle, "--base-url", fal.origin, "-o", "fox")
        assert result.exit_code == 0
        assert result.stdout == "fox.jpeg\n"
        assert fal.paid_posts == 1


def test_a_wrong_handle_exits_with_2() -> None:
    assert diptych("resume", "nonsense").exit_code == 2


def test_a_masked_edit_is_resumed_with_its_picture_and_mask(openai: OpenAIPeer) -> None:
    from PIL import Image as pillow

    given = Image.of(peer_picture(openai))
    mask = pillow.new("L", given.size)
    mask.paste(255, (100, 100, 300, 300))
    mask.save("mask.png")
    with FalPeer(key=CANARY, delay=2.0) as fal:
        late = diptych(
            "edit", "given.png", "a red ball", *at(fal), "--mask", "mask.png", "--timeout", "1"
        )
        assert late.exit_code == 6
        advice = re.search(r"diptych (resume \S+) .*--image given.png --mask mask.png", late.stderr)
        assert advice is not None
        words = advice[0].split()[1:]
        result = diptych(*words, "-o", "ball.png")
        assert result.exit_code == 0, result.stderr
        assert fal.paid_posts == 1
    assert Image.of("ball.png").pil().getpixel((5, 5)) == given.pil().getpixel((5, 5))


def test_pictures_that_came_before_an_error_are_kept(fal: FalPeer) -> None:
    fal.fault(peers.status(500), on="submit", after=1)
    result = diptych("generate", FOX, *at(fal, "fal/flux-2-pro"), "--n", "2", "-o", "fox", "--json")
    assert result.exit_code == 4
    error = document(result)["error"]
    assert [Path(each["path"]).exists() for each in error["images"]] == [True]
    assert error["images"][0]["path"] in result.stderr


def test_an_answer_without_pictures_exits_with_4(fal: FalPeer) -> None:
    fal.serve_output("fal-ai/flux/dev", {"images": [], "seed": 1, "prompt": FOX})
    result = diptych("generate", FOX, *at(fal), "--json")
    assert result.exit_code == 4
    assert document(result)["error"]["type"] == "MalformedResponse"


@pytest.mark.skipif(sys.platform == "win32", reason="an interrupt is no signal there")
def test_an_interrupt_stops_the_job_and_leaves_nothing_behind() -> None:
    with FalPeer(key=CANARY, delay=60) as fal:

        def interrupt() -> None:
            fal.wait_for("status", count=4, timeout=30)
            os.kill(os.getpid(), signal.SIGINT)

        before = set(threading.enumerate())
        person = threading.Thread(target=interrupt)
        person.start()
        result = diptych("generate", FOX, *at(fal))
        person.join()
        assert result.exit_code == 130, result.output
        assert fal.count("cancel") == 1
        fal.wait_until_idle()
        assert set(threading.enumerate()) <= before


def interrupted(arguments: list[str], ready: Callable[[], None]) -> tuple[int, str, str]:
    """Run a command, interrupt it once `ready` returns, and collect what it left."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        ready()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    return process.returncode, out, err


@pytest.mark.skipif(sys.platform == "win32", reason="an interrupt is no signal there")
def test_an_interrupt_cancels_the_job_and_tells_its_handle() -> None:
    with FalPeer(key=CANARY, delay=60) as fal:
        code, out, err = interrupted(
            ["generate", FOX, *at(fal), "--json"],
            lambda: fal.wait_for("status", count=4, timeout=30),
        )
        assert code == 130
        error = json.loads(out)["error"]
        assert error["type"] == "Cancelled"
        assert f"diptych resume {error['handle']}" in err
        assert fal.count("cancel") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="an interrupt is no signal there")
def test_an_interrupt_without_a_job_says_what_it_may_cost() -> None:
    with OpenAIPeer(key=CANARY, delay=60) as openai:
        code, _, err = interrupted(
            ["generate", FOX, *at(openai)], lambda: openai.wait_for("generate", timeout=30)
        )
    assert code == 130
    assert "may be billed" in err


# Terminals and keys


def test_what_models_and_people_write_cannot_steer_the_terminal(openai: OpenAIPeer) -> None:
    openai.text = ESCAPES
    result = diptych("chat", *at(openai), input=f"a fox {ESCAPES}\n/plan a {ESCAPES}\n")
    assert result.exit_code == 0
    assert not set(result.output) & set("\x1b\x07\x9b\u202e")
    assert "says  fine words2J" in result.stdout
    error = diptych("describe", f"openai{ESCAPES}")
    assert not set(error.output) & set("\x1b\x07\x9b\u202e")


def test_keys_are_printed_by_no_command(
    openai: OpenAIPeer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = ("OPENAI_API_KEY", "FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET")
    for name in keys:
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://user:{CANARY}@example.com/{CANARY}?k={CANARY}")
    assert diptych("doctor").exit_code == 0
    found = document(diptych("doctor", "--json"))
    details = " ".join(each["detail"] for each in found["findings"])
    assert all(f"{name}: set" in details for name in keys)
    assert "https://example.com" in details
    assert "would not go there" in details
    for arguments in (
        ("plan", FOX, "-m", "openai/gpt-image-2"),
        ("plan", FOX, "-m", "openai/gpt-image-2", "--json"),
        ("plan", FOX, "-m", "fal/flux/dev", "--json"),
        ("providers",),
        (
            "generate",
            FOX,
            *at(openai),
            "--json",
            "--setting",
            f'default_headers={{"a": "{CANARY}"}}',
        ),
    ):
        assert diptych(*arguments).exit_code == 0


def test_a_key_from_the_providers_variable_stays_home(
    openai: OpenAIPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.delenv("DIPTYCH_API_KEY")
    assert diptych("generate", FOX, *at(openai)).exit_code == 4
    assert CANARY not in str([request.headers for request in openai.requests])


# Facts


def test_models_are_listed_one_a_line() -> None:
    lines = [line.split("\t") for line in diptych("models", "openai").stdout.splitlines()]
    by_ref = {line[0]: line for line in lines}
    assert by_ref["openai/gpt-image-2"][1] == "autoregressive"
    assert "instruct" in by_ref["openai/gpt-image-2"][2]
    assert by_ref["openai/dall-e-3"][5].startswith("RETIRED 2026-05-12, use openai/")
    cards = json.loads(diptych("models", "openai", "--json").stdout)
    assert {card["ref"] for card in cards} == set(by_ref)
    everything = diptych("models").stdout
    assert "openai/gpt-image-2\t" in everything
    assert "fal/flux/dev\t" in everything


def test_describe_shows_the_whole_card() -> None:
    for ref in ("openai/gpt-image-2", "fal/flux/dev", "fal/somebody/unheard-of"):
        card = document(diptych("describe", ref, "--json"))
        text = diptych("describe", ref).stdout
        assert card["ref"] == ref
        assert text.startswith(ref)
        for name in card["options"]:
            assert re.search(rf"^  {name} ", text, re.MULTILINE)
        for mode in card["edits"]:
            assert mode in text


def test_providers_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTIN, "acme", "diptych_acme:AcmeProvider")
    lines = dict(line.split("\t", 1) for line in diptych("providers").stdout.splitlines())
    assert lines["openai"].endswith("installed")
    assert "pip install diptych-acme" in lines["acme"]
    infos = json.loads(diptych("providers", "--json").stdout)
    assert {info["name"] for info in infos} == set(lines)


def test_doctor_tells_of_retired_models_and_of_a_broken_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    healthy = diptych("doctor")
    assert healthy.exit_code == 0
    assert "openai/dall-e-3 was shut down on 2026-05-12" in healthy.stdout
    assert "OPENAI_API_KEY: not set" in healthy.stdout
    monkeypatch.setenv("DIPTYCH_MODEL", "openai/dall-e-3")
    broken = diptych("doctor", "--json")
    assert broken.exit_code == 1
    assert document(broken)["healthy"] is False
    monkeypatch.setenv("DIPTYCH_MODEL", "openai/gpt-image-2")
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    assert "OPENAI_API_KEY: set, but empty" in diptych("doctor").stdout


def test_doctor_finds_a_broken_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plugin"
    info = package / "wobbly-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wobbly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[diptych.providers]\nwobbly = wobbly:Provider\n")
    (package / "wobbly.py").write_text("raise RuntimeError('out of order')\n")
    monkeypatch.syspath_prepend(str(package))
    result = diptych("doctor", "--json")
    assert result.exit_code == 1
    broken = [each for each in document(result)["findings"] if each["verdict"] == "broken"]
    assert [each["about"] for each in broken] == ["provider wobbly"]
    assert "out of order" in broken[0]["detail"]


# Starting up


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a command has loaded when it ends."""
    script = (
        "import sys\nfrom diptych.cli.app import run\n"
        f"code = run({list(arguments)!r})\n"
        "print('\\n'.join(sorted(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stderr.splitlines()}


HEAVY = {"httpx", "httpx2", "PIL", "pydantic", "openai", "fal_client", "torch", "numpy", "rich"}


def test_help_loads_nothing_heavy() -> None:
    assert not loaded_by("--help") & HEAVY


def test_facts_load_no_sdk() -> None:
    assert not loaded_by("doctor") & {"openai", "fal_client", "torch", "httpx", "httpx2"}


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"diptych \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("start", [["-m", "diptych"], None])
def test_it_runs_as_a_module_and_as_a_script(start: list[str] | None) -> None:
    script = Path(sys.executable).with_name("diptych")
    begin = [str(script)] if start is None else [sys.executable, *start]
    done = subprocess.run([*begin, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"diptych \d+\.\d+\.\d+\n", done.stdout)
