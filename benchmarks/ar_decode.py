"""Decoding with the autoregressive engine beside transformers' generate(), in one run on one GPU.

    python benchmarks/ar_decode.py                # janus, emu3 and var
    python benchmarks/ar_decode.py janus --write  # keep the table in benchmarks/results/
    python benchmarks/ar_decode.py --tiny         # small shapes, on the CPU as well: does it run

The models have the shapes of the published ones and random weights, which cost the same time and
draw noise: nothing here says anything about quality. The floor is the bytes that a token must read,
each weight and cached key and value once, over the bandwidth that a copy on this device reaches.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diptych_autoregressive.cache import KVStore
from diptych_autoregressive.family import Job, Runtime
from diptych_autoregressive.grammar import Grammar
from diptych_autoregressive.llama import Decoder
from diptych_autoregressive.raster import Raster
from diptych_autoregressive.sampling import Sampler
from figures import Figures
from torch import Tensor

PROMPT = 32
"""Tokens of the prompt."""

BASELINE = 64
"""Tokens for which generate() is timed."""


class Bench(Figures):
    """The device, the sizes, and the rows of the table."""

    def __init__(self, tiny: bool) -> None:
        super().__init__(digits=2)
        self.tiny = tiny
        self.bandwidth = self._bandwidth()

    def theirs(self, what: str, run: Callable[[], object], tokens: int) -> float | None:
        """Milliseconds a token of a baseline after two runs to warm up; None when it does not run."""
        try:
            first = self.seconds(run)
            run()
            each = 1e3 * self.seconds(run) / tokens
        except Exception as error:
            print(f"{what} does not run: {error!r}"[:600], flush=True)
            return None
        self.note(f"{what}, first {tokens} tokens", first, "s")
        self.note(what, each, "ms/token")
        return each

    def _bandwidth(self) -> float:
        """Bytes a second of a copy, read and written."""
        size = 1 << (24 if self.tiny else 31)
        source = torch.randint(256, (size,), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        target.copy_(source)
        times = [self.seconds(lambda: target.copy_(source)) for _ in range(10)]
        return 2 * size / statistics.median(times)

    @contextmanager
    def building(self) -> Generator[None, None, None]:
        """Weights are made on the device, in its format."""
        torch.set_default_dtype(self.dtype)
        try:
            with self.device:
                yield
        finally:
            torch.set_default_dtype(torch.float32)


def tensors(model: torch.nn.Module, rename: Callable[[str], str | None]) -> dict[str, Tensor]:
    found = ((rename(name), tensor) for name, tensor in model.state_dict().items())
    return {name: tensor for name, tensor in found if name is not None}


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def token_bytes(decoder: Decoder, canvas: Any, rows: int, columns: float) -> float:
    """Bytes that one pass must read: the layers and the head, and the cache at its mean length."""
    weights = sum(
        each.nbytes
        for layer in decoder.layers
        for each in (layer.qkv, layer.out, layer.gate_up, layer.down)
    )
    head = sum(each.nbytes for each in canvas)
    kept = decoder.shape.token_numbers * decoder.norm.element_size() * rows * columns
    return float(weights + head + kept)


def ours(
    bench: Bench,
    name: str,
    raster: Raster,
    grammar: Grammar,
    sampler: Sampler,
    head: tuple[Tensor, ...],
    bar: str,
) -> float:
    """Milliseconds a token for one picture with guidance; notes first picture, floor and memory."""
    prompts = [np.arange(10, 10 + PROMPT, dtype=np.int32)] * sampler.branches

    def picture(seeds: tuple[int, ...]) -> float:
        job = Job({}, seeds)
        steps = raster.codes(prompts, grammar, sampler, job, lambda codes: None)  # type: ignore[arg-type, return-value]
        next(steps)  # the prompt is read
        return bench.seconds(lambda: [None for _ in steps])

    first = picture((1,))
    times = [picture((seed,)) for seed in ((2,) if grammar.codes > 2000 else (2, 3, 4))]
    each = 1e3 * statistics.median(times) / grammar.codes
    columns = PROMPT + grammar.body / 2
    floor = 1e3 * token_bytes(raster.decoder, head, sampler.branches, columns) / bench.bandwidth
    bench.note(f"{name}, diptych", each, "ms/token", bar)
    bench.note(f"{name}, floor by arithmetic", floor, "ms/token")
    bench.note(f"{name}, over the floor", each / floor, "x")
    bench.note(f"{name}, tokens of a picture", statistics.median(times), "s")
    bench.note(f"{name}, first picture, graphs captured", first, "s")
    if grammar.codes <= 2000:
        picture((5, 6, 7, 8))
        four = picture((5, 6, 7, 8))
        bench.note(
            f"{name}, 4 pictures at once over 1", four / statistics.median(times), "x", "<= 1.5"
        )
    bench.peak(f"{name}, diptych")
    return each


def beside(bench: Bench, what: str, theirs: float | None, mine: float, bar: str) -> None:
    if theirs is not None:
        bench.note(f"{what}, over diptych", theirs / mine, "x", bar)


def janus(bench: Bench) -> None:
    from diptych_autoregressive.janus_model import _canvas, _from_hf
    from transformers import GenerationConfig, JanusConfig, JanusForConditionalGeneration

    small = bench.tiny
    width = 64 if small else 4096
    text = {
        "hidden_size": width,
        "intermediate_size": 96 if small else 11008,
        "num_hidden_layers": 2 if small else 30,
        "num_attention_heads": 4 if small else 32,
        "vocab_size": 256 if small else 102400,
        "max_position_embeddings": 1024 if small else 16384,
    }
    codes = 64 if small else 16384
    vq: dict[str, Any] = {
        "num_embeddings": codes,
        "projection_dim": width,
        "image_token_embed_dim": width,
    }
    vision: dict[str, Any] = {}
    if small:
        vq |= {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1}
        vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision |= {"image_size": 64, "projection_dim": width}
    config = JanusConfig(text_config=text, vq_config=vq, vision_config=vision, image_token_id=3)
    with bench.building():
        model: Any = JanusForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig(
        generation_kwargs={"boi_token_id": 9},
        bos_token_id=1,
        pad_token_id=2,
        guidance_scale=5.0,
        max_length=640,
    )
    count = 8 if small else BASELINE
    model.model.vision_model.config.num_image_tokens = count
    ids = torch.arange(10, 10 + PROMPT, device=bench.device)[None]

    def theirs() -> object:
        return model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_mode="image",
            do_sample=True,
            guidance_scale=5.0,
            temperature=1.0,
            top_k=0,
        )

    baseline = bench.theirs("janus-pro-7b, generate()", theirs, count)
    bench.peak("janus-pro-7b, generate()")
    weights: Any = tensors(model, _from_hf)
    decoder = Decoder.of(weights, "text.", config.text_config)
    canvas = _canvas(weights)
    words = weights["text.embed_tokens.weight"]
    model = weights = None
    free()
    raster = Raster(decoder, words, canvas, KVStore(0))
    side = 4 if small else 24
    mine = ours(
        bench,
        "janus-pro-7b",
        raster,
        Grammar(side, side, codes),
        Sampler(guidance=5.0),
        (*canvas.out, *canvas.head),
        "<= 4.0 on an H200",
    )
    beside(bench, "janus-pro-7b, generate()", baseline, mine, ">= 5")


def emu3(bench: Bench) -> None:
    from diptych_autoregressive.emu3_model import Emu3Layout, _renamed
    from diptych_autoregressive.joint import JointModel
    from transformers import Emu3Config, Emu3ForConditionalGeneration

    small = bench.tiny
    codes, first = (64, 100) if small else (32768, 151854)
    names = {f"<|visual token {code:06d}|>": first + code for code in range(codes)}
    for at, name in enumerate(
        ("<image>", "<|image start|>", "<|image token|>", "<|image end|>", "<|extra_200|>")
    ):
        names[name] = first - 10 + at
    names["<|extra_201|>"] = first - 4
    text = {
        "hidden_size": 64 if small else 4096,
        "intermediate_size": 96 if small else 14336,
        "num_hidden_layers": 2 if small else 32,
        "num_attention_heads": 4 if small else 32,
        "num_key_value_heads": 2 if small else 8,
        "vocab_size": 200 if small else 184622,
        "max_position_embeddings": 512 if small else 9216,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    vq: dict[str, Any] = {}
    if small:
        vq = {"codebook_size": codes, "embed_dim": 4, "latent_channels": 4, "base_channels": 32}
        vq |= {"channel_multiplier": [1, 1], "num_res_blocks": 1, "attn_resolutions": [0]}
    config = Emu3Config(text_config=text, vq_config=vq, vocabulary_map=names)
    with bench.building():
        model: Any = Emu3ForConditionalGeneration(config).eval()
    model.generation_config.pad_token_id = 0
    count = 8 if small else BASELINE
    ids = torch.arange(10, 10 + PROMPT, device=bench.device)[None]
    allowed = torch.arange(first, first + codes, device=bench.device)

    def theirs(**options: Any) -> object:
        return model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            negative_prompt_ids=ids,
            negative_prompt_attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=True,
            top_k=2048 if not small else 16,
            guidance_scale=3.0,
            prefix_allowed_tokens_fn=lambda batch, given: allowed,
            **options,
        )

    dynamic = bench.theirs("emu3-8b, generate()", theirs, count)
    bench.peak("emu3-8b, generate()")
    static = bench.theirs(
        "emu3-8b, generate() with a static cache",
        partial(theirs, cache_implementation="static"),
        count,
    )
    torch._dynamo.reset()
    weights: Any = tensors(model, _renamed)
    decoder = Decoder.of(weights, "text.", config.text_config)
    fixed = (first - 6, first - 4, first - 7)
    layout = Emu3Layout(None, allowed.cpu(), fixed, 1, first - 9, first - 8)
    table, head = weights["text.embed_tokens.weight"], weights["head.weight"]
    canvas = JointModel(decoder, table, head, layout, None, None, kept=0, speed="exact")  # type: ignore[arg-type]
    model = weights = None
    free()
    side = 4 if small else 64
    mine = ours(
        bench,
        "emu3-8b at 512 px",
        Raster(decoder, table, canvas, KVStore(0)),
        layout.grammar(side, side),
        Sampler(guidance=3.0, top_k=16 if small else 2048),
        (head[:codes],),
        "<= 4.9 on an H200",
    )
    beside(bench, "emu3-8b, generate()", dynamic, mine, ">= 6")
    beside(bench, "emu3-8b, generate() with a static cache", static, mine, ">= 2")


def var(bench: Bench) -> None:
    from diptych_autoregressive.convnet import Shape
    from diptych_autoregressive.var.draw import VARModel
    from diptych_autoregressive.var.model import VAR, Config, step
    from diptych_autoregressive.vq import ScaleTokenizer

    small = bench.tiny
    depth = 2 if small else 30
    config = Config(
        classes=1000,
        depth=depth,
        width=64 * depth,
        heads=depth,
        hidden=256 * depth,
        vocabulary=64 if small else 4096,
        channels=32,
        patch_nums=(1, 2, 3, 4) if small else (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
        shared=False,
    )
    wide = 32 if small else 160
    down = tuple((wide * by, 2, by == 4) for by in (1, 1, 2, 2, 4))
    up = tuple((wide * by, 3, by == 4) for by in (4, 2, 2, 1, 1))
    with bench.building():
        model = VAR(config).eval().requires_grad_(False)
    with bench.device:
        encoder, decoder = Shape(3, wide, 32, down), Shape(32, wide * 4, 3, up)
        tokenizer = ScaleTokenizer(encoder, decoder, (config.vocabulary, 32), 3, 4).eval()
    tokenizer.requires_grad_(False)
    for each in (*model.parameters(), *tokenizer.parameters()):
        if each.dim() > 1:
            each.normal_(0, 0.02)
    tokenizer.place(bench.device, bench.dtype)
    side = config.patch_nums[-1] * tokenizer.factor
    runtime = Runtime(str(bench.device), bench.dtype)
    graphs, eager = (VARModel(model, tokenizer, side, runtime, {}) for _ in range(2))
    payload: dict[str, Any] = {
        "guidance": 4.0,
        "top_k": 40 if small else 900,
        "top_p": 0.95,
        "more_smooth": False,
    }
    payload |= {"label": 207, "size": [side, side]}

    def scales(drawer: Any, seed: int) -> None:
        for at, _ in enumerate(drawer.draw(Job(payload, (seed,))), 1):
            if at == len(config.patch_nums):
                break

    def picture(drawer: Any, seed: int) -> None:
        for _ in drawer.draw(Job(payload, (seed,))):
            pass

    picture(eager, 1)
    assert eager._spare is not None
    eager._spare = (*eager._spare[:2], step)
    first = bench.seconds(lambda: picture(graphs, 1))
    repeats = range(2, 4 if small else 12)
    for name, run in (("its scales", scales), ("to the PNG", picture)):
        for seed in (0, 1):
            run(graphs, seed)
            run(eager, seed)
        fast, slow = (
            statistics.median(bench.seconds(partial(run, drawer, seed)) for seed in repeats)
            for drawer in (graphs, eager)
        )
        bench.note(f"var-d{depth}, {name}, eager loop of the same code", 1e3 * slow, "ms")
        bench.note(f"var-d{depth}, {name}, diptych", 1e3 * fast, "ms")
        bar = ">= 3" if name == "its scales" else ""
        bench.note(f"var-d{depth}, {name}, eager over diptych", slow / fast, "x", bar)
    bench.note(f"var-d{depth}, first picture, graphs captured", first, "s")
    weights = sum(each.nbytes for each in model.parameters())
    tokens = sum(n * n for n in config.patch_nums)
    arithmetic = (
        2 * 2 * tokens * sum(each.numel() for block in model.blocks for each in block.parameters())
    )
    bench.note(
        f"var-d{depth}, floor: weights read once a scale",
        1e3 * weights * len(config.patch_nums) / bench.bandwidth,
        "ms",
    )
    bench.note(f"var-d{depth}, arithmetic", arithmetic / 1e12, "TFLOP")
    bench.peak(f"var-d{depth}")


CASES = {"janus": janus, "emu3": emu3, "var": var}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", default=[], metavar="|".join(CASES))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", type=Path, help="where to keep the figures as JSON")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    bench = Bench(options.tiny)
    bench.note("copy, read and written", bench.bandwidth / 1e9, "GB/s")
    for name in options.cases or CASES:
        began = time.perf_counter()
        CASES[name](bench)
        free()
        print(f"{name} took {time.perf_counter() - began:.0f} s", flush=True)
        if options.json:
            options.json.write_text(json.dumps(bench.figures, indent=1))
    where = torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.machine()
    lines = ["| what | figure | bar |", "|---|---|---|"]
    lines += [f"| {what} | {figure} | {bar} |" for what, figure, bar in bench.rows]
    command = " ".join(["python benchmarks/ar_decode.py", *options.cases])
    text = f"{date.today()}, {where}, torch {torch.__version__}, `{command}`\n\n" + "\n".join(lines)
    print(text)
    if options.write:
        target = Path(__file__).parent / "results" / "ar_decode.md"
        target.write_text(f"# ar_decode.py\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
