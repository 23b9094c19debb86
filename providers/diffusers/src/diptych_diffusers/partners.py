"""The application's side of passes that are divided over several cards: one process for each further card.

A process and not a thread: two threads of Python launch kernels in turn, more slowly than two cards run
them, and a CUDA graph that holds the exchange between cards is captured in one process for each.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from diptych.errors import ConfigurationError, DiptychError, Unavailable

from .memory import SPARE
from .partner import LOCAL, Division, layout, local, meet
from .speed import Pace

__all__ = ["Partners"]

_START = 300.0
"""Seconds that a partner may take to import its libraries, and to receive the weights."""

_NEWS = 5.0
"""Seconds in which the end of a partner is known after what it caused."""

_PATIENCE = 10.0
"""Seconds in which a partner ends by itself."""

_QUOTED = 1500
"""Characters of a partner's last words in an error."""

_ONE = threading.Lock()
"""Held while the process has partners: torch has one process group by default, and diffusers uses it."""


class Partners:
    """The processes that run the passes of one transformer together with this one.

    Made before the model is loaded, so that they start meanwhile; then `share`, then `lead`. Raises
    `ConfigurationError` when there are too few cards, or the process has a group already.
    """

    def __init__(self, device: str, count: int) -> None:
        cards = _cards(device, count)
        if not _ONE.acquire(blocking=False):
            raise ConfigurationError(
                f"parallel={count}: another model of this process runs on several cards, and one at a time "
                "can; close its client first, or leave parallel out"
            )
        self._owner = os.getpid()
        self._device = torch.device(device)
        self._lock = threading.Lock()
        self._closed = self._met = False
        self._lost = threading.Event()
        self._reason = ""
        self._pace: Pace | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="diptych-"))
        self._partners: list[_Partner] = []
        atexit.register(self.close)
        try:
            if dist.is_initialized():
                raise ConfigurationError(
                    f"parallel={count}: torch.distributed is in use in this process, and its group would be "
                    "needed; run the client in a process without it, or leave parallel out"
                )
            for rank, card in enumerate(cards[1:], 1):
                self._partners.append(_Partner(self._folder, rank, count, card, self._ended))
        except BaseException:
            self.close()
            raise

    def share(self, transformer: Any, speed: str, running: int) -> None:
        """Give the partners the transformer, which may be anywhere; passes are divided from now on.

        `running` is the bytes that a pass takes beside the weights. Raises `ConfigurationError` when a
        card has no room, and `Unavailable` when a partner ends meanwhile.
        """
        try:
            self._share(transformer, speed, running)
        except DiptychError:
            raise
        except Exception:
            self._lost.wait(_NEWS)
            self.check()
            raise

    def _share(self, transformer: Any, speed: str, running: int) -> None:
        count = len(self._partners) + 1
        own = layout(transformer)
        whole = sum(each.numel() * each.element_size() for each in own.values())
        for partner in self._partners:
            free = partner.answer()["free"]
            if whole + running + SPARE > free:
                raise ConfigurationError(
                    f"parallel={count}: the whole transformer is on every card, which takes "
                    f"{(whole + running + SPARE) / 1e9:.1f} GB, and {partner.card} has {free / 1e9:.1f} GB "
                    "free; free it, draw fewer or smaller pictures at once, or leave parallel out"
                )
        model = {
            "kind": type(transformer).__name__,
            "config": {
                name: each for name, each in transformer.config.items() if not name.startswith("_")
            },
            "tensors": [_shape(name, each) for name, each in own.items()],
            "speed": speed,
        }
        for partner in self._partners:
            partner.tell(model)
        for partner in self._partners:
            partner.answer()
        self._met = True
        with local():
            meet(self._folder, 0, count, self._device)
            for each in own.values():
                dist.broadcast(each.detach().to(self._device).contiguous(), 0)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # copies of what lies elsewhere
            self._division = Division(transformer, self._device)
            for partner in self._partners:
                partner.answer()

    def lead(self, transformer: Any, pace: Pace) -> None:
        """From now on the partners are told of each pass, and run it too."""
        self._pace = pace
        forward = transformer.forward

        @functools.wraps(forward)
        def together(**named: Any) -> Any:
            self.check()
            try:
                named = self._division.padded(named)
                self._announce(named, pace)
                return self._division.run(forward, named, pace.compiled)
            except Exception:
                self._lost.wait(_NEWS)
                self.check()
                self._fail("a pass failed in the application")  # the others wait in the midst of it
                raise

        transformer.forward = together

    def _announce(self, named: dict[str, Any], pace: Pace) -> None:
        tensors = {
            name: each.to(self._device).contiguous()
            for name, each in named.items()
            if isinstance(each, Tensor)
        }
        command = {
            "compiled": pace.compiled,
            "moved": pace.moved(),  # both sides let go of their graphs at the same pass
            "tensors": [_shape(name, each) for name, each in tensors.items()],
            "values": {name: each for name, each in named.items() if name not in tensors},
        }
        for partner in self._partners:
            partner.tell(command)
        for each in tensors.values():
            dist.broadcast(each, 0)

    @property
    def is_lost(self) -> bool:
        """Whether no pass can be run any more."""
        return self._lost.is_set() or self._closed

    def check(self) -> None:
        """Raise `Unavailable` when no pass can be run any more, or the last one may be incomplete."""
        if self._lost.is_set():
            raise Unavailable(
                f"{self._reason}; the next request loads the model again",
                provider="diffusers",
                code="partner_lost",
            )

    def _ended(self, partner: _Partner, code: int) -> None:
        """On the thread that watches a partner."""
        if self._closed:
            return
        self._fail(
            f"the process that ran passes on {partner.card} ended with code {code}{partner.words()}"
        )
        if self._device.type == "cuda":
            _abort()

    def _fail(self, reason: str) -> None:
        with self._lock:
            if self._lost.is_set():
                return
            self._reason = reason
            self._lost.set()
        for partner in self._partners:
            partner.process.kill()

    def close(self) -> None:
        """End the partners and the group."""
        with self._lock:
            if self._closed or os.getpid() != self._owner:
                return
            self._closed = True
        atexit.unregister(self.close)
        if self._pace is not None:
            self._pace.forget()  # NCCL does not end before the graphs that hold its work
        for partner in self._partners:
            partner.stop()
        if self._met:
            _leave(self._device)
        shutil.rmtree(self._folder, ignore_errors=True)
        _ONE.release()


class _Partner:
    """One process. `ended` is called with its exit code, on the thread that watches it."""

    def __init__(self, folder: Path, rank: int, count: int, card: str, ended: Any) -> None:
        self.card = card
        self._last: deque[str] = deque(maxlen=40)
        self._answers: queue.Queue[Any] = queue.Queue()
        paths = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
        values = (str(folder), str(rank), str(count), card)
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "diptych_diffusers.partner", *values],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **LOCAL, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the application, which ends its partners
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        self._listener.start()
        self._watcher.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._last.append(line.decode(errors="replace"))

    def _watch(self, ended: Any) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(json.loads(line))
        code = self.process.wait()
        self._listener.join(1)
        self._answers.put(None)
        ended(self, code)

    def tell(self, command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What it answers next. Raises `Unavailable` when it ended instead."""
        try:
            found = self._answers.get(timeout=_START)
        except queue.Empty:
            found = None
        if found is None:
            raise Unavailable(
                f"the process for passes on {self.card} did not get ready{self.words()}",
                provider="diffusers",
                code="partner_lost",
            )
        return found

    def words(self) -> str:
        """The end of what it wrote to its standard error, to be quoted."""
        said = "".join(self._last).strip()[-_QUOTED:]
        return f": {said}" if said else ""

    def stop(self) -> None:
        """End it: by the end of its commands, else by force."""
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._watcher.join(_PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None and not self._watcher.is_alive():
                stream.close()


def _cards(device: str, count: int) -> list[str]:
    """The cards of the group. Raises `ConfigurationError` when they are not there."""
    if not dist.is_available() or sys.platform == "win32":
        raise ConfigurationError(
            f"parallel={count} needs torch.distributed, which is not here; leave parallel out"
        )
    if device == "cpu":
        return [device] * count
    if not device.startswith("cuda") or not dist.is_nccl_available():
        raise ConfigurationError(
            f"parallel={count} needs CUDA cards with NCCL, and the device is {device}; leave parallel out"
        )
    first, there = int(device.partition(":")[2]), torch.cuda.device_count()
    if first + count > there:
        named = ", ".join(
            f"cuda:{each} ({torch.cuda.get_device_name(each)})" for each in range(there)
        )
        raise ConfigurationError(
            f"parallel={count} from {device} on needs cuda:{first} to cuda:{first + count - 1}, and this "
            f"machine has {named}; take a smaller number or an earlier device"
        )
    return [f"cuda:{first + each}" for each in range(count)]


def _abort() -> None:
    """End what waits for another card. Returns once no graph is left that holds an exchange with it."""
    with contextlib.suppress(Exception):  # another thread was faster
        if (world := dist.group.WORLD) is not None:
            world._get_backend(torch.device("cuda")).abort()  # other threads run meanwhile


def _leave(device: torch.device) -> None:
    """End the process group, whatever its members do."""
    if device.type == "cuda":
        _abort()
        with contextlib.suppress(Exception):
            dist.distributed_c10d._abort_process_group()
    with contextlib.suppress(Exception):  # a peer is gone
        if dist.is_initialized():
            dist.destroy_process_group()


def _shape(name: str, tensor: Tensor) -> tuple[str, list[int], str]:
    return name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")
