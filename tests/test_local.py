"""What local engines stand on: checkpoints by name, the worker of a device, pictures as tensors."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from diptych import Image, Mask
from diptych.errors import (
    ConfigurationError,
    InvalidInput,
    PermissionDenied,
    Unavailable,
    UnknownModel,
)
from diptych.local import tensors
from diptych.local import worker as workers
from diptych.local.checkpoints import Sidecar, fetch, find, sidecar
from diptych.local.devices import check_device, check_dtype, free_memory, pick_device, pick_dtype
from diptych.local.worker import Worker, worker


def steps(count, log, name="job"):
    try:
        for index in range(count):
            log.append((name, index))
            yield index
    finally:
        log.append((name, "closed"))


async def collected(stream):
    return [event async for event in stream]


def test_a_job_yields_its_events_in_order():
    log: list[object] = []
    assert asyncio.run(collected(worker("cpu").stream(steps(4, log)))) == [0, 1, 2, 3]
    assert log[-1] == ("job", "closed")


def test_jobs_take_turns_step_by_step_and_never_run_at_once():
    log: list[tuple[str, int]] = []
    running = threading.Lock()

    def job(name):
        for index in range(20):
            assert running.acquire(blocking=False), "two steps ran at once"
            log.append((name, index))
            running.release()
            yield None

    async def both():
        device = Worker("cpu")
        await asyncio.gather(*(collected(device.stream(job(name))) for name in "ab"))

    asyncio.run(both())
    order = [name for name, _ in log]
    # One may start before the other has arrived; from then on they alternate.
    joined = order.index("b" if order[0] == "a" else "a")
    tail = order[joined : joined + 10]
    assert all(first != second for first, second in itertools.pairwise(tail))


def test_closing_the_stream_closes_the_job_within_a_step_and_waits_for_it():
    log: list[object] = []

    async def stop_early():
        stream = worker("cpu").stream(steps(10**6, log))
        assert await anext(stream) == 0
        await stream.aclose()

    asyncio.run(stop_early())
    assert log[-1] == ("job", "closed")


def test_cancelling_the_reader_closes_the_job():
    log: list[object] = []

    async def cancelled():
        task = asyncio.ensure_future(collected(worker("cpu").stream(steps(10**6, log))))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert log[-1] == ("job", "closed")


def test_what_a_job_raises_is_raised_here_and_harms_no_other():
    def failing():
        yield 1
        raise ZeroDivisionError("inside")

    async def both():
        device = Worker("cpu")
        return await asyncio.gather(
            collected(device.stream(failing())),
            collected(device.stream(steps(50, []))),
            return_exceptions=True,
        )

    failed, fine = asyncio.run(both())
    assert isinstance(failed, ZeroDivisionError)
    assert fine == list(range(50))


def test_a_call_runs_on_the_devices_thread_without_gradients():
    name, has_gradients = asyncio.run(
        worker("cpu").call(lambda: (threading.current_thread().name, torch.is_grad_enabled()))
    )
    assert name == "diptych-cpu"
    assert not has_gradients


def test_the_thread_ends_when_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(workers, "IDLE", 0.05)
    device = Worker("cpu-idle")

    async def twice():
        first = await device.call(threading.current_thread)
        await asyncio.to_thread(first.join, 5)
        assert not first.is_alive()
        return await device.call(lambda: 7)

    assert asyncio.run(twice()) == 7


def test_there_is_one_worker_a_device():
    assert worker("cpu") is worker("cpu")
    assert worker("cpu") is not worker("cuda:0")


# Checkpoints


def test_a_folder_is_named_with_its_path(tmp_path):
    found = find("diffusers", str(tmp_path))
    assert (found.source, found.folder) == ("folder", tmp_path)
    assert fetch(found) == tmp_path


def test_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(UnknownModel, match="there is no folder"):
        find("diffusers", str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "name", ["a b", "org/../name", "org/name/more", "-x/y", "name@", "x" * 300]
)
def test_what_cannot_be_a_repository_is_refused_with_the_ways_out(name):
    with pytest.raises(UnknownModel, match="org/name"):
        find("diffusers", name)


def test_a_folder_named_without_a_dot_gets_the_right_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UnknownModel, match=r'write "diffusers/\./mine"'):
        find("diffusers", "mine")


def snapshot(cache, repository, commit="0" * 40, ref="main"):
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / ref).write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    return folder / "snapshots" / commit


def test_a_repository_in_the_hubs_cache_is_found_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    kept = snapshot(tmp_path, "acme/paint")
    tagged = snapshot(tmp_path, "acme/paint", "1" * 40, "v2")
    assert find("diffusers", "acme/paint").folder == kept
    assert find("diffusers", "acme/paint@v2").folder == tagged
    assert find("diffusers", f"acme/paint@{'1' * 40}").folder == tagged
    assert find("diffusers", "acme/paint@v3").folder is None
    assert find("diffusers", "acme/other").folder is None


def hub(answers):
    """A server in the Hub's place that answers every request with `answers`."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers = answers
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


FETCHES = """
import sys
from diptych.local.checkpoints import fetch, find
try:
    fetch(find("diffusers", "acme/paint"))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("answer", "error", "advice"),
    [
        ((404, {"X-Error-Code": "RepoNotFound"}), UnknownModel, "check the name"),
        ((404, {"X-Error-Code": "RevisionNotFound"}), UnknownModel, "revision"),
        ((403, {"X-Error-Code": "GatedRepo"}), PermissionDenied, "licence"),
        ((500, {}), Unavailable, "name a folder"),
    ],
)
def test_a_repository_that_cannot_be_had_is_a_typed_error(tmp_path, answer, error, advice):
    server = hub(answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ran = subprocess.run(
            [sys.executable, "-c", FETCHES],
            env={
                **os.environ,
                "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "HF_HUB_CACHE": str(tmp_path),
                "HF_HUB_DISABLE_TELEMETRY": "1",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert ran.stdout.startswith(error.__name__), ran.stdout + ran.stderr
    assert advice in ran.stdout


def test_a_side_car_names_the_words_that_the_model_never_saw(tmp_path):
    (tmp_path / "diptych.json").write_text(
        json.dumps({"defaults": {"steps": 4}, "size": 64, "known_words": ["a", "fox", "of"]})
    )
    read = sidecar(tmp_path)
    assert (read.defaults["steps"], read.size) == (4, 64)
    assert read.unknown_words("A fox of Mars, a fox\N{RIGHT SINGLE QUOTATION MARK}s MARS") == (
        "mars",
        "fox's",
    )


def test_a_folder_without_a_side_car_says_nothing(tmp_path):
    assert sidecar(tmp_path) == Sidecar()
    assert sidecar(tmp_path).unknown_words("anything") == ()


def test_a_broken_side_car_is_refused(tmp_path):
    (tmp_path / "diptych.json").write_text("[1, 2")
    with pytest.raises(InvalidInput, match="side-car"):
        sidecar(tmp_path)


# Devices


def test_the_device_is_one_that_is_there():
    assert pick_device("cpu") == "cpu"
    assert pick_device(None) in ("cpu", "mps", "cuda:0")
    with pytest.raises(ConfigurationError, match="not on this machine"):
        pick_device("cuda:99")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "xla"])
def test_what_is_no_device_is_refused_without_torch(device):
    with pytest.raises(ConfigurationError, match="'cuda'"):
        check_device(device)


def test_the_number_format_fits_the_device():
    assert pick_dtype(None, "cpu") is torch.float32
    assert pick_dtype("bf16", "cpu") is torch.bfloat16
    assert pick_dtype(None, "mps") is torch.float16
    with pytest.raises(ConfigurationError, match="bfloat16"):
        check_dtype("int3")


def test_free_memory_is_measured():
    assert 0 < free_memory("cpu") < 2**50


# Tensors


def test_a_picture_comes_back_from_a_tensor_bit_for_bit():
    picture = Image.of(Pillow.effect_noise((19, 7), 90).convert("RGB"))
    tensor = tensors.from_image(picture)
    assert tensor.shape == (3, 7, 19)
    assert -1 <= tensor.min() < tensor.max() <= 1
    assert np.array_equal(tensors.to_image(tensor).numpy(), picture.numpy())


def test_transparency_becomes_white():
    tensor = tensors.from_image(Image.of(Pillow.new("RGBA", (4, 4), (255, 0, 0, 0))))
    assert torch.equal(tensor, torch.ones(3, 4, 4))


def test_a_mask_keeps_its_soft_values_and_can_be_scaled():
    mask = Mask.from_array(np.array([[0, 51], [255, 255]], np.uint8))
    assert torch.allclose(tensors.from_mask(mask), torch.tensor([[[0, 0.2], [1, 1]]]))
    assert tensors.from_mask(mask, (8, 6)).shape == (1, 6, 8)
