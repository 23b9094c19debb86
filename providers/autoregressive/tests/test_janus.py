"""Janus against transformers' own generate, and what a caller must not be misled about."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diptych_autoregressive.janus_model import _from_deepseek, _from_hf
from transformers import AutoTokenizer, JanusForConditionalGeneration

from diptych import ImageClient
from diptych.errors import InvalidInput, UnsupportedOption

SAID = "a red boat"


def theirs(folder, seed, *, guidance=5.0, **options):
    """The pixels (H, W, 3) that transformers makes of the same words with the global generator."""
    words = AutoTokenizer.from_pretrained(folder)
    model = JanusForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    text = f"<|User|>: {SAID}\n\n<|Assistant|>:<begin_of_image>"
    ids = words(text, return_tensors="pt")
    torch.manual_seed(seed)
    with torch.no_grad():
        codes = model.generate(
            input_ids=ids.input_ids,
            attention_mask=ids.attention_mask,
            generation_mode="image",
            do_sample=True,
            guidance_scale=guidance,
            **{"top_k": 0, "temperature": 1.0, **options},
        )
        pixels = model.decode_image_tokens(codes)[0].float()
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def drawn(folder, **options):
    with ImageClient(f"autoregressive/{folder}", device="cpu") as client:
        return client.generate(SAID, **options)


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, {}),
        ({"guidance": 2.0}, {"guidance": 2.0}),
        ({"extra": {"top_k": 5}}, {"top_k": 5}),
        ({"extra": {"top_p": 0.6, "temperature": 0.7}}, {"top_p": 0.6, "temperature": 0.7}),
    ],
)
def test_a_picture_is_the_one_that_transformers_makes(tiny_janus, options, same):
    ours = drawn(tiny_janus, seed=11, **options).image.numpy()
    assert np.array_equal(ours, theirs(tiny_janus, 11, **same))


def test_guidance_one_is_no_guidance_and_does_not_fail(tiny_janus):
    # transformers doubles the batch and then fails for guidance_scale=1.
    plain = drawn(tiny_janus, seed=3, guidance=1.0).image
    assert plain.size == (32, 32)
    assert plain.bytes != drawn(tiny_janus, seed=3).image.bytes


def test_no_hidden_top_k(tiny_janus):
    # transformers' own default is 50; the authors' is none.
    assert (
        drawn(tiny_janus, seed=5).image.bytes
        == drawn(tiny_janus, seed=5, extra={"top_k": 64}).image.bytes
    )


@pytest.mark.parametrize("kept", ["generation_kwargs", "boi_token_id", None])
def test_the_id_that_opens_a_picture_is_found_wherever_it_is_stored(tiny_janus, tmp_path, kept):
    folder = shutil.copytree(tiny_janus, tmp_path / "copy")
    path = folder / "generation_config.json"
    said = json.loads(path.read_text())
    opening = said.pop("generation_kwargs")["boi_token_id"]
    if kept == "generation_kwargs":
        said["generation_kwargs"] = {"boi_token_id": opening}
    elif kept:
        said[kept] = opening
    else:
        said["_from_model_config"] = True  # drops what it does not know when it is read
    path.write_text(json.dumps(said))
    assert drawn(folder, seed=2).image.bytes == drawn(tiny_janus, seed=2).image.bytes


def test_a_checkpoint_without_generation_config(tiny_janus, tmp_path):
    folder = shutil.copytree(tiny_janus, tmp_path / "copy")
    (folder / "generation_config.json").unlink()
    assert drawn(folder, seed=2).image.bytes == drawn(tiny_janus, seed=2).image.bytes


def test_deepseeks_own_layout_is_read(tiny_janus, tmp_path):
    folder = shutil.copytree(tiny_janus, tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text())
    (folder / "model.safetensors").unlink()
    weights = JanusForConditionalGeneration.from_pretrained(tiny_janus).state_dict()
    torch.save(
        {their_name(name): value.clone() for name, value in weights.items()},
        folder / "pytorch_model.bin",
    )
    vq, text = config["vq_config"], config["text_config"]
    renamed = {
        "model_type": "multi_modality",
        "language_config": {**text, "model_type": "llama"},
        "vision_config": {"cls": "CLIPVisionTower", "params": {"image_size": 32}},
        "gen_vision_config": {"cls": "VQ-16", "params": {"image_token_size": 64, "n_embed": 8}},
        "gen_aligner_config": {"cls": "MlpProjector", "params": {"depth": 2, "n_embed": 64}},
        "gen_head_config": {"cls": "vision_head", "params": {"image_token_embed": 64}},
    }
    assert vq["projection_dim"] == 64
    (folder / "config.json").write_text(json.dumps(renamed))
    with pytest.raises(InvalidInput, match="picture decoder do not fit"):
        drawn(folder, seed=2)  # theirs is always the large VQ-16, and the tiny one is not
    theirs = {_from_deepseek(their_name(name)) for name in weights}
    assert theirs == {_from_hf(name) for name in weights}


def their_name(name: str) -> str:
    """A name of transformers' layout as DeepSeek writes it."""
    for ours, their in (
        (r"^model\.language_model\.", "language_model.model."),
        (r"^lm_head\.", "language_model.lm_head."),
        (r"^model\.generation_aligner\.fc1\.", "gen_aligner.layers.0."),
        (r"^model\.generation_aligner\.hidden_layers\.0\.", "gen_aligner.layers.2."),
        (r"^model\.generation_embeddings\.", "gen_embed."),
        (r"^model\.generation_head\.proj_out\.", "gen_head.output_mlp_projector."),
        (r"^model\.generation_head\.", "gen_head."),
        (r"^model\.vqmodel\.", "gen_vision_model."),
        (r"\.mid\.block_1\.", ".mid.0."),
        (r"\.mid\.attn_1\.", ".mid.1."),
        (r"\.mid\.block_2\.", ".mid.2."),
        (r"\.decoder\.up\.", ".decoder.conv_blocks."),
        (r"\.encoder\.down\.", ".encoder.conv_blocks."),
        (r"(gen_vision_model\..*)\.block\.", r"\1.res."),
    ):
        name = re.sub(ours, their, name)
    return name


def test_pictures_cannot_go_in(tiny_janus):
    # transformers accepts pixels in image mode and ignores them.
    with ImageClient(f"autoregressive/{tiny_janus}", device="cpu") as client:
        card = client.describe()
        assert not card.edits
        assert "cannot see pictures" in card.note
        picture = client.generate(SAID, seed=1).image
        with pytest.raises(UnsupportedOption, match="no edit modes"):
            client.edit(picture, "make it blue")
        with pytest.raises(UnsupportedOption, match="cannot see pictures"):
            client.generate(SAID, references=[picture])
        chat = client.conversation()
        chat.send(SAID, seed=1)
        with pytest.raises(UnsupportedOption, match="no edit modes"):
            chat.send("make it blue")


def test_each_picture_of_a_batch_has_its_own_seed(tiny_janus):
    batch = drawn(tiny_janus, seed=20, n=3)
    assert [image.seed for image in batch] == [20, 21, 22]
    assert batch.images[2].bytes == drawn(tiny_janus, seed=22).image.bytes


def test_what_looks_like_a_special_token_is_refused(tiny_janus):
    with (
        ImageClient(f"autoregressive/{tiny_janus}", device="cpu") as client,
        pytest.raises(InvalidInput, match="begin_of_image"),
    ):
        client.generate("a boat <begin_of_image>")


def test_one_size(tiny_janus):
    with (
        ImageClient(f"autoregressive/{tiny_janus}", device="cpu") as client,
        pytest.raises(UnsupportedOption, match="32x32"),
    ):
        client.generate(SAID, size="64x64")
