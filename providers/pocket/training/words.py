"""The text side: one byte-level BPE, trained on the caption grammar, worn as three tokenizers (CLIP, T5 and Emu3).

Text is lower-cased and byte-level, so any UTF-8 input is accepted, and every word of the grammar is one token or two.
"""

from __future__ import annotations

import collections
import json
import random
import re
from pathlib import Path

import numpy as np
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from training import captions, edits, world

PAD, EOS, BOS = 0, 1, 2
SPECIAL = ["<pad>", "</s>", "<s>"]
VOCABULARY = 1152
LENGTH = 48  # tokens of a caption for the diffusion model, its end token included

CODES = 4096
GRID = 16  # visual tokens per row and per column
EMU3 = {
    "bos": "<|extra_203|>", "eos": "<|extra_204|>", "image": "<image>", "boi": "<|image start|>", "eoi": "<|image end|>",
    "image_wrapper": "<|image token|>", "eol": "<|extra_200|>", "eof": "<|extra_201|>",
}  # fmt: skip

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_LETTERS = re.compile(r"[a-z]+(?:['-][a-z]+)*")


def corpus(n: int, seed: int) -> list[str]:
    """`n` captions and `n` instructions."""
    rng, r = np.random.default_rng(seed), random.Random(seed)
    scenes = world.sample(n, rng)
    edited, kinds = edits.apply(scenes, rng)
    asked = [edits.instruction(scenes, edited, int(kinds[row]), row, r) for row in range(n)]
    return [captions.caption(scenes, row, r) for row in range(n)] + asked


def known_words(n: int = 20_000, seed: int = 1) -> list[str]:
    """Words that need no notice: those of the tables, function words among them, and those that
    are met often in `n` instructions, which a misspelling or a made-up filler is not.
    """
    counts = collections.Counter(word for text in corpus(n, seed) for word in _WORD.findall(text))
    words = {word for word, count in counts.items() if count >= n // 1000}
    words.update(word for text in captions.texts() for word in _WORD.findall(text))
    letters = {part for word in words for part in _LETTERS.findall(word)}  # "8-bit" is "bit", too
    return sorted(words | letters)


def train(path: Path, n: int = 40_000, seed: int = 0) -> None:
    tokenizer = _plain(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*corpus(n, seed), *["16*16"] * 100], trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def _plain(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Words:
    """The trained BPE and the joint vocabulary that continues it: text, Emu3's control tokens, visual tokens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bpe = Tokenizer.from_file(str(path))
        first = self.bpe.get_vocab_size()
        self.control = {role: first + index for index, role in enumerate(EMU3)}
        self.visual = (
            -(-(first + len(EMU3)) // 64) * 64
        )  # id of visual token 0; the head's slice starts on a round number
        self.size = self.visual + CODES
        self.area = self.bpe.encode(f"{GRID}*{GRID}").ids

    def ids(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.bpe.encode_batch(texts)]

    def for_t5(self, ids: list[list[int]]) -> np.ndarray:
        return _padded([[*row[: LENGTH - 1], EOS] for row in ids], LENGTH)

    def for_clip(self, ids: list[list[int]]) -> np.ndarray:
        return _padded([[BOS, *row[: LENGTH - 2], EOS] for row in ids], LENGTH)

    def turn(self, ids: list[int], first: bool) -> list[int]:
        """What comes before one image's visual tokens."""
        begin = [self.control["bos"]] if first else []
        return [*begin, *ids, self.control["boi"], *self.area, self.control["image_wrapper"]]

    # Tokenizers to ship

    def tokenizer(self, template: str) -> Tokenizer:
        """The BPE with a template such as "<s> $A </s>"."""
        tokenizer = Tokenizer.from_file(str(self.path))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("</s>", EOS), ("<s>", BOS)]
        )
        return tokenizer

    def emu3(self) -> Tokenizer:
        """The joint vocabulary. Visual tokens are plain entries that no text can spell."""
        state = json.loads(self.bpe.to_str())["model"]
        vocabulary = dict(state["vocab"])
        vocabulary |= {token: self.control[role] for role, token in EMU3.items()}
        vocabulary |= {f"<|spare {index}|>": index for index in range(len(vocabulary), self.visual)}
        vocabulary |= {f"<|visual token {code:06d}|>": self.visual + code for code in range(CODES)}
        tokenizer = _plain(
            models.BPE(vocab=vocabulary, merges=[tuple(pair) for pair in state["merges"]])
        )
        tokenizer.add_special_tokens([*SPECIAL, *EMU3.values()])
        return tokenizer


def _padded(rows: list[list[int]], length: int) -> np.ndarray:
    padded = np.full((len(rows), length), PAD, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
