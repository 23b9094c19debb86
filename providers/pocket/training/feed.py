"""Batches of scenes and token ids from worker processes; drawing is left to the GPU."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np

from training import captions, edits, world
from training.words import GRID, PAD, Words

Batch = dict[str, Any]  # scenes, and token ids as numpy arrays
ROW = GRID + 1  # visual tokens of one row and its end-of-line
SINGLE, TRIPLE = 320, 928  # lengths of training sequences with one image and with three
EMPTY, EMPTY_ALL = 0.05, 0.1


def pictures(words: Words, rng: np.random.Generator, r: random.Random, n: int) -> Batch:
    """Scenes alone."""
    return {"scenes": world.sample(n, rng)}


def captioned(words: Words, rng: np.random.Generator, r: random.Random, n: int) -> Batch:
    """Scenes with captions for the diffusion model, one caption in ten empty."""
    scenes = world.sample(n, rng)
    texts = ["" if r.random() < 0.1 else captions.caption(scenes, row, r) for row in range(n)]
    ids = words.ids(texts)
    return {"scenes": scenes, "t5": words.for_t5(ids), "clip": words.for_clip(ids)}


def single(words: Words, rng: np.random.Generator, r: random.Random, n: int) -> Batch:
    return conversations(words, rng, r, n, images=1, length=SINGLE)


def triple(words: Words, rng: np.random.Generator, r: random.Random, n: int) -> Batch:
    return conversations(words, rng, r, n, images=3, length=TRIPLE)


def conversations(
    words: Words, rng: np.random.Generator, r: random.Random, n: int, images: int, length: int
) -> Batch:
    """Sequences of caption, image, instruction, image ...: ids with zeros where visual tokens go, and where each image starts."""
    turns = [world.sample(n, rng)]
    texts = [[captions.caption(turns[0], row, r) for row in range(n)]]
    for _ in range(images - 1):
        edited, kinds = edits.apply(turns[-1], rng)
        texts.append(
            [edits.instruction(turns[-1], edited, int(kinds[row]), row, r) for row in range(n)]
        )
        turns.append(edited)
    silent = [r.random() < EMPTY_ALL for _ in range(n)]
    said = [
        ["" if silent[row] or r.random() < EMPTY else text for row, text in enumerate(turn)]
        for turn in texts
    ]
    encoded = [words.ids(turn) for turn in said]
    ids = np.full((n, length), PAD, dtype=np.int64)
    starts = np.zeros((n, images), dtype=np.int64)
    for row in range(n):
        budget = length - 1 - images * (GRID * ROW + 4 + len(words.area))
        at = 0
        for turn in range(images):
            text = encoded[turn][row]
            text = text if len(text) <= budget else []
            budget -= len(text)
            before = words.turn(text, first=turn == 0)
            ids[row, at : at + len(before)] = before
            starts[row, turn] = at = at + len(before)
            at += GRID * ROW
            ids[row, at : at + 2] = words.control["eof"], words.control["eoi"]
            at += 2
    return {"scenes": world.join(*turns), "ids": ids, "starts": starts}


def _work(make: Callable[..., Batch], path: Path, n: int, seed: int, queue: Queue[Batch]) -> None:
    words, rng, r = Words(path), np.random.default_rng(seed), random.Random(seed)
    while True:
        queue.put(make(words, rng, r, n))


class Feed:
    """An endless iterator of batches made by `workers` processes, each with its own seed."""

    def __init__(
        self, make: Callable[..., Batch], path: Path, n: int, seed: int, workers: int
    ) -> None:
        context = multiprocessing.get_context("fork")
        self.queues: list[Queue[Batch]] = [context.Queue(maxsize=4) for _ in range(workers)]
        self.processes = [
            context.Process(
                target=_work, args=(make, path, n, seed * 1000 + index, queue), daemon=True
            )
            for index, queue in enumerate(self.queues)
        ]
        for process in self.processes:
            process.start()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            for queue in self.queues:  # in turn: the order does not depend on who is quicker
                yield queue.get()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
