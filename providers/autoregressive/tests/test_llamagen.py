"""LlamaGen against the authors' code: logits, tokens and pictures; then what a caller relies on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diptych_autoregressive.llamagen.model import Cache, LlamaGen, Options, sample
from diptych_autoregressive.vq import GridTokenizer

from .parity import Case, apart, needs_parity

pytestmark = needs_parity

CLASSES, TEXT = Case("llamagen/c2i"), Case("llamagen/t2i")
HEADS, SIDE = 4, 6


@pytest.fixture(scope="module")
def model():
    return LlamaGen.load(CLASSES.tensors("weights"), heads=HEADS)


@pytest.fixture(scope="module")
def reader():
    return LlamaGen.load(TEXT.tensors("weights"), heads=HEADS)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def drawn(model, labels, seeds, options):
    condition = model.classes(labels, guided=options.cfg > 1)
    return list(sample(model, condition, seeded(*seeds), options, side=SIDE))[-1].tokens


@pytest.mark.parametrize("case", [CLASSES, TEXT], ids=["c2i", "t2i"])
def test_a_picture_to_tokens_and_back(case):
    tokenizer, expected = GridTokenizer.load(case.tensors("vq")), case.tensors("expected")
    source = case.tensors("inputs")["source_image"]
    assert apart(tokenizer.features(source), expected["encode.features"]) <= 1e-4
    tokens = tokenizer.encode(source)
    assert torch.equal(tokens, expected["encode.tokens"])
    assert apart(tokenizer.decode(tokens), expected["encode.reconstruction"]) <= 2e-4


@pytest.mark.parametrize(
    ("case", "run"), [(CLASSES, "plain"), (CLASSES, "nocfg"), (TEXT, "plain")], ids=str
)
def test_every_run_of_the_fixture(case, run):
    how, inputs, expected = case.runs[run], case.tensors("inputs"), case.tensors("expected")
    model = LlamaGen.load(case.tensors("weights"), heads=HEADS)
    options = Options(
        how["cfg_scale"], how["top_k"], how["top_p"], how["temperature"], how["cfg_interval"]
    )
    guided, mask = options.cfg > 1, None
    if case is CLASSES:
        condition = model.classes(how["labels"], guided=guided)
    else:
        condition = model.captions(inputs[how["captions"]], guided=guided)
        mask = inputs[how["caption_mask"]]
    generator = seeded(how["seed"])
    for token in sample(model, condition, generator, options, side=SIDE, mask=mask):
        theirs = expected[f"{run}.logits"][:, token.index]
        assert apart(token.logits, theirs) <= 1e-4
    assert torch.equal(token.tokens, expected[f"{run}.tokens"].long())
    picture = GridTokenizer.load(case.tensors("vq")).decode(token.tokens)
    assert apart(picture, expected[f"{run}.image"]) <= 2e-4


def test_a_picture_does_not_depend_on_its_batch(model):
    options = Options(cfg=2.0, top_k=0)
    together = drawn(model, [3, 7, 3], [40, 41, 42], options)
    for row, (label, seed) in enumerate(zip([3, 7, 3], [40, 41, 42], strict=True)):
        assert torch.equal(together[row], drawn(model, [label], [seed], options)[0])


def test_seeds_labels_and_options_matter(model):
    options = Options(cfg=2.0, top_k=0)
    base = drawn(model, [3], [1], options)
    assert torch.equal(base, drawn(model, [3], [1], options))
    for label, seed, other in (
        (3, 2, options),
        (4, 1, options),
        (3, 1, replace(options, cfg=1.0)),
        (3, 1, replace(options, top_k=2)),
        (3, 1, replace(options, top_p=0.1)),
        (3, 1, replace(options, temperature=0.1)),
        (3, 1, replace(options, cfg_until=3)),
    ):
        assert not torch.equal(base, drawn(model, [label], [seed], other))


def test_guidance_ends_after_the_token_that_was_named(model):
    options = Options(cfg=3.0, top_k=0, cfg_until=4)
    condition = model.classes([3], guided=True)
    limited = list(sample(model, condition, seeded(1), options, side=SIDE))
    full = list(sample(model, condition, seeded(1), replace(options, cfg_until=-1), side=SIDE))
    # Index j is unguided once j - 1 is greater than the limit.
    same = [torch.equal(a.logits, b.logits) for a, b in zip(limited, full, strict=True)]
    assert same.index(False) == 6


def test_reading_to_the_end_of_the_cache_changes_nothing(model):
    """What a captured graph does: every step reads all positions, and the mask hides later ones."""
    condition = model.classes([3], guided=False)
    positions = torch.arange(SIDE * SIDE + 1)
    short, long = (Cache.of(model, 1, SIDE) for _ in range(2))
    x = condition
    for index in range(5):
        at = positions[index : index + 1]
        logits = model.step(x, at, short, index + 1)
        assert apart(model.step(x, at, long, len(positions)), logits) <= 1e-5
        x = model.tok_embeddings(logits.argmax(-1, keepdim=True))


def test_features_behind_the_mask_change_nothing(reader):
    inputs = TEXT.tensors("inputs")
    features, mask = inputs["captions"], inputs["caption_mask"]
    noisy = torch.where(mask[:, :, None] > 0, features, torch.randn_like(features))
    options = Options(cfg=2.0, top_k=0)

    def tokens(captions):
        condition = reader.captions(captions, guided=True)
        steps = sample(reader, condition, seeded(1), options, side=SIDE, mask=mask)
        return list(steps)[-1].tokens

    assert torch.equal(tokens(features), tokens(noisy))


def test_what_the_authors_code_leaves_in_a_checkpoint_is_passed_over(model):
    state = CLASSES.tensors("weights")
    state["freqs_cis"] = torch.zeros(37, 8, 2)
    state["layers.0.attention.kv_cache.k_cache"] = torch.zeros(1)
    again = LlamaGen.load(state, heads=HEADS)
    options = Options(cfg=2.0)
    assert torch.equal(drawn(again, [3], [1], options), drawn(model, [3], [1], options))
