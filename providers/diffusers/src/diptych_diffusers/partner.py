"""The process on a further card: it runs every pass of the transformer that the application runs.

Started as `python -m diptych_diffusers.partner` by `Partners`. It reads commands as lines of JSON from
its standard input and tensors from the process group, and ends when the input does.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import init_empty_weights  # type: ignore[import-untyped,unused-ignore]
from diffusers import ContextParallelConfig, ParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ContextParallelOutput
from torch import Tensor, nn
from torch._C._distributed_c10d import FileStore
from torch.distributed.device_mesh import init_device_mesh

from diptych.local import devices
from diptych.local.components import class_of

from .classes import CLASSES
from .speed import Pace

__all__ = ["LOCAL", "Division", "layout", "local", "meet"]

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

LOCAL = {
    "GLOO_SOCKET_IFNAME": _LOOPBACK,
    "NCCL_SOCKET_IFNAME": _LOOPBACK,
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
}
"""The processes meet on this machine alone, and torch does not end one of them over a late answer."""

_LENGTHS = ("hidden_states", "encoder_hidden_states")
"""The arguments of a pass whose tokens are divided, (B, S, C)."""

_MASK = "encoder_hidden_states_mask"
"""The argument that says which tokens of the text are seen, (B, S), for models that take one."""

_ALIVE = 5.0
"""Seconds between looks whether the application still runs."""


@contextmanager
def local() -> Iterator[None]:
    """`LOCAL` in the environment; libraries read it while a group forms."""
    before = {name: os.environ.get(name) for name in LOCAL}
    os.environ.update(LOCAL)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def meet(folder: Path, rank: int, count: int, device: torch.device) -> None:
    """Form the process group of `count` processes, which find each other by a file in `folder`.

    On CUDA it has a side on the CPU too, on which diffusers compares lengths without stopping the card.
    """
    hook = sys.excepthook
    try:
        dist.init_process_group(
            "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
            store=FileStore(str(folder / "store"), count),
            rank=rank,
            world_size=count,
        )
    finally:
        sys.excepthook = hook  # torch puts a rank before every line of a traceback


def layout(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, in the order in which they are sent."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


class Division:
    """A transformer whose passes are divided by tokens over the processes of the group (Ulysses).

    These are the hooks that `enable_parallelism` puts in, which itself picks a device by its own rules.
    """

    def __init__(self, transformer: Any, device: torch.device) -> None:
        count = dist.get_world_size()
        mesh = init_device_mesh(device.type, (1, count), mesh_dim_names=("ring", "ulysses"))
        self._count = count
        self._tokens = 0
        self._config = ContextParallelConfig(ulysses_degree=count, mesh=mesh)
        self._whole = ParallelConfig(context_parallel_config=self._config)
        self._whole.setup(dist.get_rank(), count, device, mesh=mesh)
        self._attentions = [
            module
            for module in transformer.modules()
            if hasattr(getattr(module, "processor", None), "_parallel_config")
        ]
        splits = dict(transformer._cp_plan)
        outputs = [path for path, each in splits.items() if isinstance(each, ContextParallelOutput)]
        for path in outputs:  # diffusers gathers unequal shares in a way that gloo has not
            gathered = functools.partial(self._gathered, splits.pop(path).gather_dim)
            transformer.get_submodule(path).register_forward_hook(gathered)
        apply_context_parallel(transformer, self._config, splits)

    def padded(self, named: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a pass, with a text that all have an equal share of, where it can be masked."""
        if _MASK not in named:
            return named
        text, mask = named["encoder_hidden_states"], named[_MASK]
        short = -text.shape[1] % self._count
        if not short:
            return named
        if mask is None:
            mask = text.new_ones(text.shape[:2], dtype=torch.bool)
        longer = {
            "encoder_hidden_states": F.pad(text, (0, 0, 0, short)),
            _MASK: F.pad(mask, (0, short)),
        }
        return {**named, **longer}

    def run(self, forward: Callable[..., Any], named: Mapping[str, Any], compiled: bool) -> Any:
        """One pass. All processes call this with the same arguments."""
        for module in self._attentions:  # a processor may have been replaced by a faster one
            module.processor._parallel_config = self._whole
        even = all(named[name].shape[1] % self._count == 0 for name in _LENGTHS)
        self._config.ulysses_anything = not even
        self._tokens = named["hidden_states"].shape[1]
        if even or not compiled:
            return forward(**named)
        with torch.compiler.set_stance("force_eager"):  # exchanging lengths is not compiled
            return forward(**named)

    def _gathered(self, dim: int, module: nn.Module, inputs: Any, share: Tensor) -> Tensor:
        """The output of all processes, from the share of each."""
        most = -(-self._tokens // self._count)
        padding = [0, 0] * (share.dim() - dim - 1) + [0, most - share.shape[dim]]
        padded = F.pad(share, padding).contiguous()
        shares = [torch.empty_like(padded) for _ in range(self._count)]
        dist.all_gather(shares, padded)
        longer = self._tokens % self._count or self._count
        lengths = [most - (rank >= longer) for rank in range(self._count)]
        cut = [each.narrow(dim, 0, length) for each, length in zip(shares, lengths, strict=True)]
        return torch.cat(cut, dim)


def built(kind: str, config: Mapping[str, Any], tensors: Any, device: torch.device) -> Any:
    """An empty transformer of class `kind` on `device`. `tensors` lists name, shape and type of each."""
    with init_empty_weights(include_buffers=False):  # tables that are no buffers are computed
        transformer = class_of(kind, CLASSES).from_config(config).eval().requires_grad_(False)
    own = layout(transformer)
    if list(own) != [name for name, _, _ in tensors]:
        raise ValueError(f"{kind} has other parameters here than in the application")
    for name, shape, dtype in tensors:
        path, _, leaf = name.rpartition(".")
        parent: Any = transformer.get_submodule(path)
        empty = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        if leaf in parent._parameters:
            parent._parameters[leaf] = nn.Parameter(empty, requires_grad=False)
        else:
            parent._buffers[leaf] = empty
    return transformer


def serve(folder: Path, rank: int, count: int, device: torch.device, answers: TextIO) -> None:
    """Do what the application says, until its end."""

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    commands = map(json.loads, iter(sys.stdin.buffer.readline, b""))
    say(free=devices.free_memory(str(device)))
    model = next(commands)
    transformer = built(model["kind"], model["config"], model["tensors"], device)
    say(built=True)
    meet(folder, rank, count, device)
    for tensor in layout(transformer).values():
        dist.broadcast(tensor, 0)
    division = Division(transformer, device)
    pace = Pace(transformer, model["speed"], device)
    say(divided=True)
    for command in commands:
        if command["compiled"] and not pace.compiled:
            pace.drawn()
        if command["moved"]:
            pace.forget()
        named = dict(command["values"])
        for name, shape, dtype in command["tensors"]:
            named[name] = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
            dist.broadcast(named[name], 0)
        division.run(transformer, named, pace.compiled)


def _outlived(folder: Path, parent: int) -> None:
    """End this process when the application is gone, even if it waits for the card just then."""
    while os.getppid() == parent:
        time.sleep(_ALIVE)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main() -> None:
    """`partner FOLDER RANK COUNT DEVICE`."""
    folder, rank, count, name = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    watch = threading.Thread(target=_outlived, args=(Path(folder), os.getppid()), daemon=True)
    watch.start()
    device = torch.device(name)
    torch.set_grad_enabled(False)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        serve(Path(folder), int(rank), int(count), device, answers)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    shutil.rmtree(folder, ignore_errors=True)  # the application may have been killed
    os._exit(0)  # the group's own end would wait for the others


if __name__ == "__main__":
    main()
