"""VAR against the authors' code: logits, tokens, maps and pictures; then what a caller relies on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diptych_autoregressive.var.model import VAR, Buffers, Kept, Options, sample
from diptych_autoregressive.vq import ScaleTokenizer

from .parity import Case, apart, needs_parity

pytestmark = needs_parity

CASE = Case("var")
NONE = 10
"""The number of "no class" in a model of ten classes."""


@pytest.fixture(scope="module")
def model():
    return VAR.load(CASE.tensors("weights"))


@pytest.fixture(scope="module")
def tokenizer():
    return ScaleTokenizer.load(CASE.tensors("vae"))


@pytest.fixture(scope="module")
def source():
    return CASE.tensors("inputs")["source_image"]


@pytest.fixture(scope="module")
def expected():
    return CASE.tensors("expected")


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def drawn(model, tokenizer, labels, seeds, options, **more):
    """All tokens of every picture, and f_hat."""
    scales = list(sample(model, tokenizer, labels, seeded(*seeds), options, **more))
    return torch.cat([scale.tokens for scale in scales], 1), scales[-1].f_hat


def test_what_the_tensors_say(model):
    config = model.config
    assert config.patch_nums == tuple(CASE.facts["config"]["transformer"]["patch_nums"])
    assert (config.classes, config.depth, config.heads) == (10, 4, 4)


def test_a_picture_to_tokens_and_back(tokenizer, source, expected, model):
    assert apart(tokenizer.features(source), expected["encode.features"]) <= 1e-4
    tokens = tokenizer.encode(source, model.config.patch_nums)
    for scale, each in enumerate(tokens):
        assert torch.equal(each, expected[f"encode.scale{scale}.tokens"])
    assert apart(tokenizer.decode(tokens), expected["decode.image"]) <= 1e-4


@pytest.mark.parametrize("run", ["plain", "smooth", "edit"])
def test_every_run_of_the_fixture(run, model, tokenizer, source, expected):
    how = CASE.runs[run]
    kept = None
    if how["kind"] == "edit":
        keep = CASE.tensors("inputs")[how["edit_mask"]]
        kept = Kept(tokenizer.encode(source, model.config.patch_nums), keep)
    options = Options(how["cfg"], how["top_k"], how["top_p"], how["more_smooth"])
    generator = seeded(how["seed"])
    for scale in sample(model, tokenizer, how["labels"], generator, options, kept=kept):
        name = f"{run}.scale{scale.index}"
        assert torch.equal(scale.tokens, expected[f"{name}.tokens"])
        assert apart(scale.logits, expected[f"{name}.logits"]) <= 1e-4
        assert apart(scale.f_hat, expected[f"{name}.f_hat"]) <= 1e-4
        if scale.next_map is not None:
            next_map = expected[f"{run}.scale{scale.index + 1}.input_map"]
            assert apart(scale.next_map, next_map) <= 1e-4
    picture = (tokenizer.picture(scale.f_hat).clamp(-1, 1) + 1) / 2
    assert apart(picture, expected[f"{run}.image"]) <= 1e-4


@pytest.mark.parametrize("more_smooth", [False, True])
def test_a_picture_does_not_depend_on_its_batch(model, tokenizer, more_smooth):
    options = Options(cfg=2.0, top_k=0, top_p=1.0, more_smooth=more_smooth)
    together, f_hat = drawn(model, tokenizer, [3, 7, NONE], [40, 41, 42], options)
    for row, (label, seed) in enumerate(zip([3, 7, NONE], [40, 41, 42], strict=True)):
        alone, alone_f_hat = drawn(model, tokenizer, [label], [seed], options)
        assert torch.equal(together[row], alone[0])
        assert apart(f_hat[row], alone_f_hat[0]) <= 1e-4


def test_seeds_labels_and_options_matter(model, tokenizer):
    options = Options(cfg=2.0, top_k=0, top_p=1.0)
    base, _ = drawn(model, tokenizer, [3], [2], options)
    assert torch.equal(base, drawn(model, tokenizer, [3], [2], options)[0])
    for label, seed, other in (
        (3, 7, options),
        (4, 2, options),
        (3, 2, replace(options, cfg=0.0)),
        (3, 2, replace(options, top_k=2)),
        (3, 2, replace(options, top_p=0.1)),
    ):
        assert not torch.equal(base, drawn(model, tokenizer, [label], [seed], other)[0])


def test_without_guidance_there_is_no_second_half(model):
    assert len(Buffers.of(model, 2, Options(cfg=0.0)).c) == 2
    assert len(Buffers.of(model, 2, Options(cfg=1.5)).c) == 4


def test_buffers_can_be_used_again(model, tokenizer):
    options = Options(cfg=2.0, top_k=0)
    buffers = Buffers.of(model, 1, options)
    first = drawn(model, tokenizer, [3], [1], options, buffers=buffers)
    drawn(model, tokenizer, [5], [9], options, buffers=buffers)
    again = drawn(model, tokenizer, [3], [1], options, buffers=buffers)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_all_kept_is_the_source(model, tokenizer, source):
    tokens = tokenizer.encode(source, model.config.patch_nums)
    side = model.config.patch_nums[-1]
    kept = Kept(tokens, torch.ones(side, side))
    _, f_hat = drawn(model, tokenizer, [NONE, 4], [1, 2], Options(), kept=kept)
    assert apart(tokenizer.picture(f_hat).clamp(-1, 1), tokenizer.decode(tokens)) <= 1e-5


def test_a_model_with_shared_modulation_loads_and_samples(tokenizer):
    """The layout of var_d36: one layer for all blocks, to which each adds its own six vectors."""
    state = CASE.tensors("weights")
    width = state["class_emb.weight"].shape[1]
    for index in range(4):
        for part in ("weight", "bias"):
            state[f"shared_ada_lin.1.{part}"] = state.pop(f"blocks.{index}.ada_lin.1.{part}")
        state[f"blocks.{index}.ada_gss"] = torch.zeros(1, 1, 6, width)
    shared = VAR.load(state)
    options = Options(cfg=2.0, top_k=0)
    base, _ = drawn(shared, tokenizer, [3], [1], options)

    apart_again = {name: tensor for name, tensor in state.items() if "ada_gss" not in name}
    for part in ("weight", "bias"):
        layer = apart_again.pop(f"shared_ada_lin.1.{part}")
        for index in range(4):
            apart_again[f"blocks.{index}.ada_lin.1.{part}"] = layer
    assert torch.equal(base, drawn(VAR.load(apart_again), tokenizer, [3], [1], options)[0])

    state["blocks.0.ada_gss"] = torch.ones(1, 1, 6, width)
    assert not torch.equal(base, drawn(VAR.load(state), tokenizer, [3], [1], options)[0])


def test_tensors_that_are_missing_or_unknown_are_named():
    state = CASE.tensors("weights")
    del state["blocks.2.ffn.fc1.bias"]
    state["blocks.2.extra"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r"blocks\.2\.fc1\.bias[\s\S]*blocks\.2\.extra"):
        VAR.load(state)
