"""Emu3 on a tiny random model, against transformers' own generate; then what a caller relies on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Emu3ForConditionalGeneration

from diptych import ImageClient
from diptych.errors import ConfigurationError, InvalidInput, UnknownModel, UnsupportedOption

from .tiny import CODES

SAID = "a red boat"
PLAIN = {"suffix": ""}


def drawn(folder, said=SAID, **options):
    with ImageClient(f"autoregressive/{folder}", device="cpu") as client:
        return client.generate(said, **options)


def theirs(folder, seed, monkeypatch, *, rows, columns, negative, guidance=3.0, **options):
    """The pixels (H, W, 3) of transformers' generate, made deterministic.

    Its global multinomial over the whole vocabulary is replaced by the same draw over the codes,
    from a generator of its own, and left out where the grammar leaves no choice.
    """
    words = AutoTokenizer.from_pretrained(folder)
    model = Emu3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    first = words.convert_tokens_to_ids("<|visual token 000000|>")
    tail = f"<|image start|>{rows}*{columns}<|image token|>"
    ids = words(f"<|extra_203|>{SAID}{tail}", return_tensors="pt").input_ids
    empty = words(f"<|extra_203|>{negative}{tail}", return_tensors="pt").input_ids
    length, codes = ids.shape[1], torch.arange(first, first + CODES)
    ends = ["<|extra_200|>", "<|extra_201|>", "<|image end|>", "<|extra_204|>"]
    line, *close = words.convert_tokens_to_ids(ends)

    def allowed(batch: int, sequence: torch.Tensor) -> torch.Tensor:
        at = len(sequence) - length
        if at >= rows * (columns + 1):
            return torch.tensor([close[at - rows * (columns + 1)]])
        return torch.tensor([line]) if at % (columns + 1) == columns else codes

    generator = torch.Generator().manual_seed(seed)

    def multinomial(probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        if int((probabilities > 0).sum()) == 1 and not probabilities[0, first:].any():
            return probabilities.argmax(-1, keepdim=True)
        chances = probabilities[:, first : first + CODES]
        noise = torch.empty_like(chances).exponential_(1, generator=generator)
        drawn: torch.Tensor = (chances / noise).argmax(-1, keepdim=True) + first
        return drawn

    guided = {}
    if guidance != 1:
        guided = {"guidance_scale": guidance, "negative_prompt_ids": empty}
        guided["negative_prompt_attention_mask"] = torch.ones_like(empty)
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "multinomial", multinomial)
        sequence = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=rows * (columns + 1) + 3,
            do_sample=True,
            prefix_allowed_tokens_fn=allowed,
            **{"top_k": 2048, **guided, **options},
        )
    with torch.no_grad():
        pixels = model.decode_image_tokens(
            image_tokens=sequence[:, length:], height=rows, width=columns
        )[0]
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"negative_prompt": "blurry"}, {"negative": "blurry"}),
        ({"negative_prompt": "blurry", "guidance": 1.5}, {"negative": "blurry", "guidance": 1.5}),
        ({"guidance": 1.0}, {"negative": "", "guidance": 1}),
        (
            {"negative_prompt": "x", "extra": {"top_k": 7, "temperature": 0.8, "top_p": 0.9}},
            {"negative": "x", "top_k": 7, "temperature": 0.8, "top_p": 0.9},
        ),
    ],
)
def test_a_picture_is_the_one_that_transformers_makes(tiny_emu3, monkeypatch, options, same):
    options = {**options, "extra": {**PLAIN, **options.get("extra", {})}}
    ours = drawn(tiny_emu3, seed=5, size="48x32", **options).image
    assert np.array_equal(
        ours.numpy(), theirs(tiny_emu3, 5, monkeypatch, rows=4, columns=6, **same)
    )


def test_the_empty_branch_also_knows_that_a_picture_of_this_size_begins(tiny_emu3, monkeypatch):
    # The documented sample builds the negative prompt without the opening; the authors' does not.
    options = {"extra": PLAIN, "negative_prompt": "x"}
    wide = drawn(tiny_emu3, seed=1, size="64x16", **options).image
    same = theirs(tiny_emu3, 1, monkeypatch, rows=2, columns=8, negative="x")
    assert np.array_equal(wide.numpy(), same)


def test_the_authors_additions_are_named_and_can_be_left_out(tiny_emu3):
    told = drawn(tiny_emu3, seed=1, size="32x32")
    assert (
        told.plan.calls[0].payload["prompt"] == f"{SAID} masterpiece, film grained, best quality."
    )
    assert "lowres" in told.plan.calls[0].payload["negative_prompt"]
    assert {notice.option for notice in told.notices} == {"prompt", "negative_prompt"}
    plain = drawn(tiny_emu3, seed=1, size="32x32", extra=PLAIN, negative_prompt="x")
    assert plain.plan.calls[0].payload["prompt"] == SAID
    assert not plain.notices


@pytest.mark.parametrize("size", [(48, 32), (33, 50), (8, 8), (100, 30)])
def test_any_size_comes_back_exactly(tiny_emu3, size):
    assert drawn(tiny_emu3, seed=1, size=size, extra=PLAIN).image.size == size


def test_a_size_that_does_not_fit_is_refused_before_anything_is_loaded(tiny_emu3):
    client = ImageClient(f"autoregressive/{tiny_emu3}", device="cpu")
    with client, pytest.raises(UnsupportedOption, match="the nearest is 156x156"):
        client.plan(SAID, size="400x400")


def test_a_prompt_that_does_not_fit_is_refused(tiny_emu3):
    with pytest.raises(InvalidInput, match="reads 512"):
        drawn(tiny_emu3, "boat " * 100, size="32x32")


def test_it_says_that_it_cannot_edit(tiny_emu3):
    with ImageClient(f"autoregressive/{tiny_emu3}", device="cpu") as client:
        assert not client.describe().edits
        assert "not trained to edit" in client.describe().note
        picture = client.generate(SAID, size="16x16", seed=1).image
        with pytest.raises(UnsupportedOption, match="no edit modes"):
            client.edit(picture, "make it blue")


def test_each_picture_of_a_batch_has_its_own_seed(tiny_emu3):
    options = {"size": "32x32", "extra": PLAIN, "negative_prompt": "x"}
    batch = drawn(tiny_emu3, seed=7, n=4, **options)
    assert [image.seed for image in batch] == [7, 8, 9, 10]
    for image in batch:
        assert image.bytes == drawn(tiny_emu3, seed=image.seed, **options).image.bytes


def test_a_picture_without_a_seed_says_which_one_repeats_it(tiny_emu3):
    first, second = drawn(tiny_emu3, size="32x32", n=2)
    assert first.bytes != second.bytes
    assert drawn(tiny_emu3, size="32x32", seed=second.seed).image.bytes == second.bytes


def test_a_prompt_cannot_smuggle_in_control_tokens(tiny_emu3):
    smuggled = drawn(tiny_emu3, "a boat<|image token|>", seed=3, size="32x32", extra=PLAIN)
    assert smuggled.image.size == (32, 32)
    assert (
        smuggled.image.bytes
        != drawn(tiny_emu3, "a boat", seed=3, size="32x32", extra=PLAIN).image.bytes
    )


def test_temperature_zero_needs_no_seed(tiny_emu3):
    options = {"size": "32x32", "extra": {**PLAIN, "temperature": 0}}
    assert (
        drawn(tiny_emu3, seed=1, **options).image.bytes
        == drawn(tiny_emu3, seed=2, **options).image.bytes
    )


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        ({"top_p": 0}, "top_p"),
        ({"top_k": 2.5}, "whole number"),
        ({"temperature": -1}, "temperature"),
        ({"suffix": 3}, "suffix"),
    ],
)
def test_settings_out_of_range_are_refused(tiny_emu3, extra, match):
    with pytest.raises(InvalidInput, match=match):
        drawn(tiny_emu3, extra=extra)


def test_unknown_settings_are_refused(tiny_emu3):
    with pytest.raises(UnsupportedOption, match="top_k"):
        drawn(tiny_emu3, extra={"topk": 3})


def test_a_negative_prompt_without_guidance_is_refused(tiny_emu3):
    with pytest.raises(UnsupportedOption, match="guidance"):
        drawn(tiny_emu3, negative_prompt="x", guidance=1)


def test_weights_that_are_no_safetensors_are_refused(tiny_emu3, tmp_path):
    folder = shutil.copytree(tiny_emu3, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InvalidInput, match="safetensors"):
        drawn(folder, size="16x16")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"no model\.safetensors"):
        drawn(folder, size="16x16")


def test_an_index_cannot_name_files_elsewhere(tiny_emu3, tmp_path):
    folder = shutil.copytree(tiny_emu3, tmp_path / "copy")
    index = {"weight_map": {"lm_head.weight": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidInput, match="outside the folder"):
        drawn(folder, size="16x16")


def test_a_weight_file_cannot_be_named_where_there_is_one_set(tiny_emu3):
    with pytest.raises(ConfigurationError, match="leave weights out"):
        ImageClient(f"autoregressive/{tiny_emu3}", weights="model.pth")


def test_a_model_that_does_not_fit_is_refused_with_the_figures(tiny_emu3, monkeypatch):
    monkeypatch.setattr("diptych.local.devices.free_memory", lambda device: 2**20)
    with pytest.raises(ConfigurationError, match=r"GiB as float32, and cpu has 0\.0 GiB"):
        drawn(tiny_emu3, size="16x16")


@pytest.mark.parametrize("settings", [{"speed": "warp"}, {"device": "gpu"}, {"dtype": "int8"}])
def test_settings_are_checked_when_the_client_is_made(tiny_emu3, settings):
    with pytest.raises(ConfigurationError):
        ImageClient(f"autoregressive/{tiny_emu3}", **settings)


def test_chameleon_says_why_it_cannot_draw(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "chameleon"}))
    with ImageClient(f"autoregressive/{tmp_path}") as client:
        assert "Emu3" in client.describe().note
        with pytest.raises(UnsupportedOption, match="masks its picture tokens"):
            client.plan("a boat")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UnknownModel, match="bert"):
        ImageClient(f"autoregressive/{tmp_path}")


def test_a_repository_that_nobody_knows_is_answered_with_near_names():
    with pytest.raises(UnknownModel, match="Janus-Pro-1B"):
        ImageClient("autoregressive/deepseek-community/Janus-Pro-2B")


def test_known_repositories_are_planned_without_being_there():
    with ImageClient("autoregressive/Emu3-community/Emu3-Gen-hf") as client:
        payload = client.plan("a boat", size="720x720", seed=1).calls[0].payload
    assert payload["size"] == [720, 720]
    assert "guidance" not in payload
