"""MAR against the authors' code: orders, conditions, latents and pictures; then what a caller relies on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diptych_autoregressive.kl import SCALE, Autoencoder
from diptych_autoregressive.mar.model import MAR, Options, counts, inpaint_orders, orders, sample

from .parity import Case, apart, needs_parity

pytestmark = needs_parity

CASE = Case("mar")
HEADS = 4


@pytest.fixture(scope="module")
def model():
    return MAR.load(CASE.tensors("weights"), heads=HEADS)


@pytest.fixture(scope="module")
def autoencoder():
    return Autoencoder.load(CASE.tensors("vae"))


@pytest.fixture(scope="module")
def source():
    return CASE.tensors("inputs")["source_image"]


@pytest.fixture(scope="module")
def expected():
    return CASE.tensors("expected")


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def drawn(model, labels, seeds, options, **more):
    order = orders(model.config.tokens, seeds)
    return list(sample(model, labels, seeded(*seeds), order, options, **more))[-1].tokens


def test_a_picture_to_latents_and_back(autoencoder, source, expected):
    assert apart(autoencoder.moments(source), expected["encode.moments"]) <= 1e-4
    latent = autoencoder.encode(source)
    assert apart(latent.flatten(2).mT / SCALE, expected["encode.tokens"] / SCALE) <= 1e-4
    assert apart(autoencoder.decode(latent), expected["encode.reconstruction"]) <= 5e-3


@pytest.mark.parametrize("run", ["plain", "nocfg", "inpaint"])
def test_every_run_of_the_fixture(run, model, autoencoder, source, expected):
    how, inputs = CASE.runs[run], CASE.tensors("inputs")
    options = Options(
        how["num_iter"],
        how["cfg"],
        how["cfg_schedule"],
        how["temperature"],
        int(CASE.facts["config"]["transformer"]["num_sampling_steps"]),
    )
    if how["kind"] == "inpaint":
        order = inputs[how["orders"]]
        tokens = autoencoder.encode(source).flatten(2).mT
        edit = {"source": tokens, "masked": int(inputs[how["mask"]][0].sum())}
    else:
        order = orders(model.config.tokens, [how["seed"]], per_seed=how["batch"])
        assert torch.equal(order, expected[f"{run}.orders"])
        edit = {}
    unknown = torch.ones(order.shape) if not edit else inputs[how["mask"]]
    for each in sample(model, how["labels"], seeded(how["seed"]), order, options, **edit):
        name = f"{run}.step{each.index}"
        assert torch.equal(unknown, expected[f"{name}.mask"])
        rows = torch.arange(how["batch"])[:, None].expand_as(each.positions)
        positions = torch.stack([rows, each.positions], -1).flatten(0, 1)
        assert torch.equal(positions, expected[f"{name}.positions"])
        assert each.cfg == expected[f"{name}.cfg"].item()
        assert apart(each.z, expected[f"{name}.z"]) <= 1e-4
        assert apart(each.latents, expected[f"{name}.latents"], relative=True) <= 5e-3
        unknown = (~each.known).float()
    assert unknown.sum() == 0
    latent = each.tokens.mT.reshape(expected[f"{run}.latent"].shape)
    assert apart(latent, expected[f"{run}.latent"], relative=True) <= 5e-3
    assert apart(autoencoder.decode(latent), expected[f"{run}.image"]) <= 5e-3
    if edit:
        keep = inputs[how["mask"]] == 0
        assert torch.equal(each.tokens[keep], tokens[keep])


def test_a_picture_does_not_depend_on_its_batch(model):
    options = Options(passes=6, cfg=2.0, steps=20)
    together = drawn(model, [3, None, 5], [40, 41, 42], options)
    for row, (label, seed) in enumerate(zip([3, None, 5], [40, 41, 42], strict=True)):
        alone = drawn(model, [label], [seed], options)
        assert apart(together[row], alone[0], relative=True) <= 5e-3


def test_seeds_labels_and_options_matter(model):
    options = Options(passes=6, cfg=2.0, steps=20)
    base = drawn(model, [3], [1], options)
    assert torch.equal(base, drawn(model, [3], [1], options))
    for label, seed, other in (
        (3, 2, options),
        (4, 1, options),
        (3, 1, replace(options, cfg=1.0)),
        (3, 1, replace(options, schedule="linear")),
        (3, 1, replace(options, temperature=0.5)),
        (3, 1, replace(options, passes=5)),
        (3, 1, replace(options, steps=19)),
    ):
        assert apart(base, drawn(model, [label], [seed], other)) > 1e-2


@pytest.mark.parametrize(("tokens", "passes"), [(256, 64), (256, 1), (256, 256), (7, 7), (5, 2)])
def test_every_pass_makes_something_and_all_is_made(tokens, passes):
    left = counts(tokens, passes)
    assert (left[0], left[-1], len(left)) == (tokens, 0, passes + 1)
    assert all(before > after for before, after in pairwise(left))


def test_masked_positions_come_first():
    unknown = torch.tensor([False, True, False, True, True, False])
    order = inpaint_orders(orders(6, [1, 2, 3]), unknown)
    assert [sorted(row[:3]) for row in order.tolist()] == [[1, 3, 4]] * 3
    assert [sorted(row) for row in order.tolist()] == [list(range(6))] * 3
    assert len({tuple(row[:3]) for row in order.tolist()}) > 1


def test_orders_of_large_seeds_differ():
    order = orders(64, [5, 5 + 2**32, 2**63 - 1])
    assert len({tuple(row) for row in order.tolist()}) == 3


def test_a_width_that_is_not_a_published_one_needs_the_heads():
    with pytest.raises(KeyError):
        MAR.load(CASE.tensors("weights"))
