"""CUDA graphs of the hybrids against plain calls of the same code. Runs where there is a CUDA device."""

from __future__ import annotations

import pytest
import torch
from diptych_autoregressive.llamagen.draw import TokenGraph
from diptych_autoregressive.llamagen.model import Cache, LlamaGen
from diptych_autoregressive.llamagen.model import Options as RasterOptions
from diptych_autoregressive.llamagen.model import sample as raster
from diptych_autoregressive.mar.draw import HeadGraphs
from diptych_autoregressive.mar.model import MAR, orders
from diptych_autoregressive.mar.model import Options as PassOptions
from diptych_autoregressive.mar.model import sample as masked
from diptych_autoregressive.var.draw import Graphs
from diptych_autoregressive.var.model import VAR, Buffers, Options, step
from diptych_autoregressive.var.model import sample as next_scale
from diptych_autoregressive.vq import ScaleTokenizer

from .parity import Case, apart, needs_parity

pytestmark = [
    needs_parity,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_scales():
    case = Case("var")
    model = VAR.load(case.tensors("weights")).cuda()
    tokenizer = ScaleTokenizer.load(case.tensors("vae")).cuda()
    options = Options(cfg=2.0, top_k=20)
    buffers, graphs = Buffers.of(model, 1, options), Graphs()

    def drawn(label, seed, how):
        scales = next_scale(
            model, tokenizer, [label], seeded(seed), options, buffers=buffers, step=how
        )
        return [(scale.tokens.clone(), scale.f_hat) for scale in scales]

    for label, seed in ((3, 1), (7, 2), (3, 1)):
        for ours, plain in zip(drawn(label, seed, graphs), drawn(label, seed, step), strict=True):
            assert torch.equal(ours[0], plain[0])
            assert apart(ours[1], plain[1]) <= 1e-4


def test_diffusion_head():
    model = MAR.load(Case("mar").tensors("weights"), heads=4).cuda()
    graphs = HeadGraphs(model.head)
    for schedule in ("constant", "linear"):
        options = PassOptions(passes=6, cfg=2.0, steps=20, schedule=schedule)

        def drawn(seed, how, options=options):
            order = orders(model.config.tokens, [seed])
            passes = masked(model, [3], seeded(seed), order, options, denoise=how)
            return list(passes)[-1].tokens

        for seed in (1, 2):
            assert apart(drawn(seed, graphs), drawn(seed, None), relative=True) <= 5e-3


def test_tokens():
    model = LlamaGen.load(Case("llamagen/c2i").tensors("weights"), heads=4).cuda()
    options = RasterOptions(cfg=2.0, top_k=0)
    cache, graph = Cache.of(model, 2, 6), TokenGraph()

    def drawn(label, seed, how):
        condition = model.classes([label], guided=True)
        tokens = raster(model, condition, seeded(seed), options, side=6, cache=cache, step=how)
        return list(tokens)[-1].tokens

    for label, seed in ((3, 1), (7, 2), (3, 1)):
        assert torch.equal(drawn(label, seed, graph), drawn(label, seed, LlamaGen.step))
