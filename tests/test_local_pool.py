"""The pool of loaded weights: sharing, freeing, making room."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from diptych.local.pool import Pool, content

torch: Any = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
Module: Any = torch.nn.Module


class Part(Module):
    """Weights of 4 bytes times `numbers` that say they are on the device they were sent to."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(numbers))
        self.place = "cpu"

    def to(self, device: str) -> Part:
        self.place = device
        return self


class Card:
    """A device with `size` bytes; `room` counts what the parts there leave."""

    def __init__(self, size: int, *parts: Part) -> None:
        self.size, self.parts = size, parts

    def room(self) -> int:
        taken = sum(4 * len(part.weight) for part in self.parts if part.place == "card")
        return self.size - taken


def weights(folder: Path, **tensors: Any) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_one_part_for_all_who_ask_until_the_last_one_leaves() -> None:
    pool, loads = Pool(), []

    class Owner: ...

    first, second = Owner(), Owner()

    def load() -> Part:
        loads.append(1)
        return Part(1)

    one = pool.hold(first, "clip", load)
    assert pool.hold(second, "clip", load) is one
    pool.leave(first)
    assert pool.hold(second, "clip", load) is one
    pool.leave(second)
    assert pool.where() == {}
    assert pool.hold(first, "clip", load) is not one
    assert len(loads) == 2
    del first
    gc.collect()
    assert pool.where() == {}


def test_two_threads_that_want_one_part_load_it_once() -> None:
    pool, loads, begun, go = Pool(), [], threading.Event(), threading.Event()

    def load() -> Part:
        loads.append(1)
        begun.set()
        go.wait(10)
        return Part(1)

    found: list[Any] = []
    owners = [object(), object()]
    threads = [
        threading.Thread(target=lambda each=each: found.append(pool.hold(each, "t5", load)))
        for each in owners
    ]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    assert pool.hold(owners[0], "vae", lambda: Part(1)).place == "cpu"  # nobody waits for t5
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(loads) == 1
    assert found[0] is found[1]


def test_the_least_recently_used_makes_room() -> None:
    pool = Pool()
    a, b, c, shared = (Part(10) for _ in range(4))
    card = Card(130, a, b, c, shared)
    owners = {name: object() for name in "abc"}
    for name, part in (("a", a), ("b", b), ("c", c)):
        pool.hold(owners[name], name, lambda part=part: part)
        pool.hold(owners[name], "shared", lambda: shared)
    assert pool.bring(owners["a"], "card", card.room) == []
    assert pool.bring(owners["b"], "card", card.room) == []
    assert pool.idle(owners["b"], "card") == 40
    assert pool.bring(owners["a"], "card", card.room) == []
    assert pool.bring(owners["c"], "card", card.room) == ["b"]
    assert (a.place, b.place, c.place, shared.place) == ("card", "cpu", "card", "card")
    assert pool.bring(owners["b"], "card", card.room) == ["a"]
    assert pool.where() == {"a": "cpu", "b": "card", "c": "card", "shared": "card"}


def test_equal_weights_have_equal_names_and_others_do_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {"a.weight": torch.randn(64, 32), "b.weight": torch.randn(8)}
    one = weights(tmp_path / "one", **tensors)
    assert content(one) == content(weights(tmp_path / "two", **tensors))
    for at, (name, tensor) in enumerate(tensors.items()):
        tuned = weights(tmp_path / f"tuned{at}", **(tensors | {name: tensor + 1e-3}))
        assert content(tuned) != content(one)
    named = weights(tmp_path / "named", **{"c.weight": tensors["a.weight"]})
    assert content(named) != content(one)
