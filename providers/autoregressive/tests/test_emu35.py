"""Emu3.5's published layout on a tiny random model; Qwen3 has the same layers in transformers."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diptych_autoregressive.convnet import Shape
from diptych_autoregressive.emu35_model import IBQ
from transformers import Qwen3Config, Qwen3ForCausalLM

from diptych import Image, ImageClient
from diptych.errors import InvalidInput, UnknownModel, UnsupportedOption

CODES, WORDS, SPECIAL = 64, 256, 211
EOL, BOS, BSS = WORDS + 3 + 200, WORDS + 3 + 203, WORDS + 3 + 100
IMG, BOI, EOI = WORDS + 208, WORDS + 209, WORDS + 210
FIRST = WORDS + SPECIAL


@pytest.fixture(scope="module")
def emu35(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("emu35")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=FIRST + CODES,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    Qwen3ForCausalLM(config).eval().save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    said |= {"model_type": "Emu3", "architectures": ["Emu3ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(said))
    words = [f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(WORDS)]
    (folder / "emu3.tiktoken").write_text("\n".join(words))
    torch.manual_seed(1)
    levels = ((32, 1, False), (32, 1, False), (32, 1, False), (32, 1, False), (32, 1, True))
    ibq = IBQ(
        Shape(3, 32, 16, levels),
        Shape(16, 32, 3, ((32, 2, True), *levels[1:4], (32, 2, False))),
        (CODES, 8),
    )
    torch.nn.init.normal_(ibq.codebook)
    (folder / "vision_tokenizer").mkdir()
    torch.save({"state_dict": published(ibq)}, folder / "vision_tokenizer" / "model.ckpt")
    return folder


def published(ibq: IBQ) -> dict[str, torch.Tensor]:
    """The state dict under the names that IBQ was published with, decoder levels counted upwards."""
    state = {}
    for name, tensor in ibq.state_dict().items():
        part = name.partition(".")[0]
        way = "down" if part == "encoder" else "up"
        if found := re.search(r"levels\.(\d+)", name):
            level = int(found[1]) if way == "down" else 4 - int(found[1])
            name = name.replace(found[0], f"{way}.{level}")
        name = name.replace(".blocks.", ".block.").replace(".resample.", f".{way}sample.conv.")
        for at, called in enumerate(("block_1", "attn_1", "block_2")):
            name = name.replace(f".mid.{at}.", f".mid.{called}.")
        name = name.replace("codebook", "quantize.embedding.weight")
        if ".qkv." in name:
            for each, third in zip("qkv", tensor.chunk(3), strict=True):
                state[name.replace(".qkv.", f".{each}.")] = third.clone()
        else:
            state[name] = tensor.clone()
    return state


def ids(text: str) -> list[int]:
    return list(text.encode())


def picture(rows: int, columns: int, codes: list[int]) -> list[int]:
    tokens = [BOI, *ids(f"{rows}*{columns}"), IMG]
    for row in range(rows):
        tokens += [FIRST + code for code in codes[row * columns : (row + 1) * columns]]
        tokens += [EOL] if row < rows - 1 else [EOI]
    return tokens


def theirs(
    folder: Path,
    prompts: tuple[list[int], list[int]],
    rows: int,
    columns: int,
    seed: int,
    guidance: float,
) -> list[int]:
    """The codes by transformers' forward over the whole sequence, once for each token."""
    model = Qwen3ForCausalLM.from_pretrained(
        folder,
        config=Qwen3Config.from_dict(
            {**json.loads((folder / "config.json").read_text()), "model_type": "qwen3"}
        ),
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    text, empty = (list(prompt) for prompt in prompts)
    codes: list[int] = []
    with torch.no_grad():
        while len(codes) < rows * columns:
            full, none = (
                model(torch.tensor([row])).logits[0, -1, FIRST:].log_softmax(-1)
                for row in (text, empty)
            )
            chances = (none + guidance * (full - none)).softmax(-1)
            codes.append(int(torch.multinomial(chances, 1, generator=generator)))
            ends = len(codes) % columns == 0
            for row in (text, empty):
                row += [FIRST + codes[-1], *([EOL] if ends else [])]
    return codes


def said(folder: Path, prompt: str, **options):
    with ImageClient(f"autoregressive/{folder}", device="cpu") as client:
        return client.generate(prompt, **options)


def codes_in(result, at: int = -1) -> list[int]:
    text = result.state["sequence"][at]["codes"]
    return [int(code) for code in np.frombuffer(base64.b64decode(text[1:]), "<u2")]


def test_text_to_image_follows_the_published_template(emu35):
    result = said(emu35, "a red boat", size="64x48", seed=4)
    assert result.image.size == (64, 48)
    opening = [BSS, BOI, *ids("3*4"), IMG]
    full = [BOS, *ids("You are a helpful assistant for t2i task. USER: a red boat ASSISTANT: ")]
    none = [BOS, *ids("You are a helpful assistant. USER:  ASSISTANT: ")]
    expected = theirs(emu35, (full + opening, none + opening), 3, 4, 4, 5.0)
    assert codes_in(result) == expected


def test_an_edit_reads_the_tokens_of_the_last_picture(emu35):
    with ImageClient(f"autoregressive/{emu35}", device="cpu") as client:
        chat = client.conversation()
        first = chat.send("a red boat", size="64x48", seed=4)
        second = chat.send("make it blue", size="64x48", seed=5)
    assert second.plan.mode == "continue"
    seen = picture(3, 4, codes_in(first))
    opening = [BSS, BOI, *ids("3*4"), IMG]
    full = [BOS, *ids("You are a helpful assistant for x2i task. USER: "), *seen]
    full += ids("make it blue ASSISTANT: ")
    none = [BOS, *ids("You are a helpful assistant. USER: "), *seen, *ids(" ASSISTANT: ")]
    expected = theirs(emu35, (full + opening, none + opening), 3, 4, 5, 3.0)
    assert codes_in(second) == expected


def test_pictures_from_elsewhere_go_in_as_tokens(emu35):
    grey = Image.of(np.full((48, 64, 3), 90, dtype=np.uint8))
    with ImageClient(f"autoregressive/{emu35}", device="cpu") as client:
        plan = client.plan_edit(grey, "make it blue", references=[grey, grey], size="32x32")
        assert plan.mode == "instruct"
        assert any("encoded to tokens" in notice.message for notice in plan.notices)
        assert len(plan.calls[0].payload["before"]) == 3
        with pytest.raises(UnsupportedOption, match="at most 3"):
            client.plan("a boat", references=[grey] * 4)
        assert client.plan("a boat").calls[0].payload == {"prompt": "a boat"}


def test_the_first_layout_of_emu3_is_pointed_elsewhere(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "Emu3", "vocab_size": 184622}))
    with (
        pytest.raises(UnknownModel, match="Emu3-Gen-hf"),
        ImageClient(f"autoregressive/{tmp_path}") as client,
    ):
        client.describe()


def test_the_vocabulary_must_be_there(emu35, tmp_path):
    for path in emu35.iterdir():
        if path.name != "emu3.tiktoken":
            (tmp_path / path.name).symlink_to(path)
    with ImageClient(f"autoregressive/{tmp_path}", device="cpu") as client:
        assert "emu3.tiktoken" in client.describe().note
        with pytest.raises(InvalidInput, match=r"github\.com/baaivision/Emu3\.5"):
            client.plan("a boat", size="32x32")


def changed(emu35: Path, folder: Path, **config: int) -> Path:
    """A copy whose config says something else."""
    for path in emu35.iterdir():
        (folder / path.name).symlink_to(path)
    said = json.loads((emu35 / "config.json").read_text()) | config
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(said))
    return folder


def test_weights_under_other_names_are_refused_with_the_names(emu35, tmp_path):
    missing = r"missing model\.layers\.2\.input_layernorm\.weight.*; unknown none"
    with pytest.raises(InvalidInput, match=missing):
        said(changed(emu35, tmp_path, num_hidden_layers=3), "a boat", size="32x32")


def test_weights_that_would_be_left_over_are_refused_as_well(emu35, tmp_path):
    unknown = r"unknown model\.layers\.1\.input_layernorm\.weight"
    with pytest.raises(InvalidInput, match=unknown):
        said(changed(emu35, tmp_path, num_hidden_layers=1), "a boat", size="32x32")


def test_files_of_different_models_are_refused(emu35, tmp_path):
    with pytest.raises(InvalidInput, match="467 words and 64 picture codes are not the 530"):
        said(changed(emu35, tmp_path, vocab_size=530), "a boat", size="32x32")


def test_the_guidance_is_the_one_that_is_recommended_for_the_checkpoint(emu35, tmp_path):
    for name, usual in (("Emu3.5", 2.0), ("Emu3.5-Image", 5.0)):
        (tmp_path / name).symlink_to(emu35)
        with ImageClient(f"autoregressive/{tmp_path / name}", device="cpu") as client:
            assert client.describe().options["guidance"].default == usual


def test_a_size_that_the_authors_cannot_ask_for_is_noticed(emu35):
    with ImageClient(f"autoregressive/{emu35}", device="cpu") as client:
        assert not client.plan("a boat", size="160x320").notices
        (notice,) = client.plan("a boat", size="144x320").notices
        assert notice.option == "size"
        assert "144x320" in notice.message
