"""GLM-Image on a tiny random checkpoint: our codes against transformers' own forward, then pixels.

What a picture should be is told by a loop over `GlmImageForConditionalGeneration.forward` that does
one thing after another, and by diffusers' pipeline given the codes of that loop.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from diffusers import GlmImagePipeline

from diptych import Image, ImageClient
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.events import Completed, Progress

from .tiny_glm import CODES, glm

SAID = "a poster that says 'hi'"
STEPS = 2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = glm(tmp_path_factory.mktemp("glm"))
    (folder / "diptych.json").write_text(
        json.dumps({"defaults": {"steps": STEPS, "image_area": 64 * 64}})
    )
    return folder


@pytest.fixture(scope="module")
def client(tiny):
    with ImageClient(f"autoregressive/{tiny}", device="cpu") as client:
        yield client


@pytest.fixture(scope="module")
def pipe(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = GlmImagePipeline.from_pretrained(tiny, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def outside():
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3))
    return Image.of(noise.astype(np.uint8))


def theirs(pipe, seed, *, said=SAID, size=(64, 64), images=(), sampling=(0.9, 50, 0.75)):
    """The codes of the large grid, from forwards of transformers' model, token by token."""
    model, (width, height) = pipe.vision_language_encoder, size
    content = [{"type": "image", "image": image.pil()} for image in images]
    inputs = pipe.processor.apply_chat_template(
        [[{"role": "user", "content": [*content, {"type": "text", "text": said}]}]],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"target_h": height, "target_w": width},
    )
    grids = inputs["image_grid_thw"][len(images) :]
    total, large = int(grids.prod(-1).sum()), int(grids[0].prod())
    temperature, top_k, top_p = sampling
    generator, codes, cache = torch.Generator().manual_seed(seed), [], None
    fed = dict(inputs)
    with torch.no_grad():
        for _ in range(total):
            out = model(**fed, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            scores = out.logits[0, -1, :CODES] / temperature
            least = scores.topk(min(top_k, CODES)).values[-1]
            scores = scores.masked_fill(scores < least, -torch.inf)
            ordered, order = scores.sort()
            unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
            unlikely[-1] = False
            scores[order[unlikely]] = -torch.inf
            noise = torch.empty(CODES).exponential_(1, generator=generator)
            codes.append(int((scores.softmax(-1) / noise).argmax()))
            fed = {"input_ids": torch.tensor([[codes[-1]]])}
            fed |= {name: inputs[name] for name in ("image_grid_thw", "images_per_sample")}
    return torch.tensor(codes[-large:])


def painted(pipe, codes, seed, *, said=SAID, size=(64, 64), guidance=1.5, steps=STEPS, images=()):
    """The pixels that diffusers makes of the codes."""
    width, height = size
    options = {}
    if images:
        sources = [
            pipe.processor.image_processor(images=[each.pil()], return_tensors="pt")
            for each in images
        ]
        seen = []
        with torch.no_grad():
            for each in sources:
                features = pipe.vision_language_encoder.get_image_features(
                    each["pixel_values"], each["image_grid_thw"]
                ).pooler_output
                found = pipe.vision_language_encoder.get_image_tokens(torch.cat(features)[None])
                _, rows, columns = each["image_grid_thw"][0].tolist()
                seen.append(pipe._upsample_token_ids(found, rows, columns)[0])
        grids = torch.cat([each["image_grid_thw"] for each in sources]) * torch.tensor([1, 2, 2])
        options = {
            "image": [each.pil() for each in images],
            "prior_token_image_ids": [torch.cat(seen)],
            "source_image_grid_thw": [grids],
        }
    pixels = pipe(
        prompt=said,
        prior_token_ids=pipe._upsample_token_ids(codes, height // 32, width // 32),
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
        **options,
    ).images[0]
    return (pixels * 255).round().byte().permute(1, 2, 0).numpy()


def same(image, pixels):
    """Equal but for a rounding of the last bit."""
    return np.abs(image.numpy().astype(int) - pixels).max() <= 1


def test_a_picture_is_the_one_of_transformers_codes(client, pipe):
    drawn = client.generate(SAID, seed=5)
    codes = theirs(pipe, 5)
    assert same(drawn.image, painted(pipe, codes, 5))
    assert not same(drawn.image, painted(pipe, (codes + 1) % CODES, 5))
    assert drawn.image.size == (64, 64)
    # 16x16 codes of the small picture come before the 2x2 of the large one.
    assert drawn.usage.tokens == 16 * 16 + 2 * 2


def test_an_oblong_walks_its_grids_in_their_own_shape(client, pipe):
    drawn = client.generate(SAID, seed=2, size="96x64", guidance=3, steps=3, extra={"top_p": 1.0})
    codes = theirs(pipe, 2, size=(96, 64), sampling=(0.9, 50, 1.0))
    assert same(drawn.image, painted(pipe, codes, 2, size=(96, 64), guidance=3.0, steps=3))


def test_sampling_is_the_checkpoints_own_or_the_callers(client, pipe):
    assert "temperature" not in client.plan(SAID).calls[0].payload
    own = client.generate(SAID, seed=4).image
    assert same(own, painted(pipe, theirs(pipe, 4, sampling=(0.9, 50, 0.75)), 4))
    drawn = client.generate(SAID, seed=4, extra={"temperature": 1.5, "top_k": 5, "top_p": 1})
    assert same(drawn.image, painted(pipe, theirs(pipe, 4, sampling=(1.5, 5, 1.0)), 4))


def test_an_edit_reads_the_picture_and_has_its_size(client, pipe, outside):
    edited = client.edit(outside, "make it blue", seed=3)
    options = {"said": "make it blue", "size": (96, 64), "images": [outside]}
    assert edited.plan.mode == "instruct"
    assert edited.usage.tokens == 2 * 3  # beside a picture there is no small one
    assert same(edited.image, painted(pipe, theirs(pipe, 3, **options), 3, **options))


def test_several_pictures(client, pipe, outside):
    other = Image.of(outside.numpy()[:, :64].copy())
    options = {"said": "both", "size": (64, 64), "images": [outside, other]}
    drawn = client.generate("both", seed=3, size="64x64", references=[outside, other])
    assert same(drawn.image, painted(pipe, theirs(pipe, 3, **options), 3, **options))


@pytest.mark.parametrize("size", [(70, 50), (90, 130), (30, 40), (400, 300)])
def test_a_picture_of_any_size_can_be_edited(client, size):
    picture = Image.of(np.full((size[1], size[0], 3), 90, np.uint8))
    assert client.edit(picture, "add a boat", seed=1).image.size == size


def test_every_code_is_one_that_the_painter_knows(tiny, tmp_path):
    # Ids from the first mark on would be out of the painter's range; make them all but certain.
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny, tmp_path / "copy")
    path = folder / "vision_language_encoder" / "model.safetensors"
    state = load_file(path)
    state["lm_head.weight"][CODES:] *= 100
    save_file(state, path, {"format": "pt"})
    with ImageClient(f"autoregressive/{folder}", device="cpu") as client:
        drawn = client.generate(SAID, seed=1)
    assert drawn.usage.tokens == 16 * 16 + 2 * 2
    assert drawn.image.size == (64, 64)


def test_each_picture_has_codes_of_its_own_and_is_the_one_that_its_seed_makes_alone(client):
    batch = client.generate(SAID, seed=7, n=3)
    assert [image.seed for image in batch] == [7, 8, 9]
    assert len({image.bytes for image in batch}) == 3
    for image in batch:
        assert image.bytes == client.generate(SAID, seed=image.seed).image.bytes


def test_a_batch_in_one_pass_draws_the_same_pictures(tiny, client):
    alone = client.generate(SAID, seed=7, n=2)
    with ImageClient(f"autoregressive/{tiny}", device="cpu", speed="fast") as fast:
        for one, other in zip(alone, fast.generate(SAID, seed=7, n=2), strict=True):
            assert same(one, other.numpy())


def test_coarse_numbers_draw_as_well(tiny, outside):
    with ImageClient(f"autoregressive/{tiny}", device="cpu", dtype="bfloat16") as client:
        drawn = client.generate(SAID, seed=7, n=2)
        assert drawn[1].bytes == client.generate(SAID, seed=8).image.bytes
        assert client.edit(outside, "make it blue", seed=1).image.size == (96, 64)


def test_the_random_numbers_of_the_process_are_left_alone(client, outside):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    client.generate(SAID, seed=1)
    client.edit(outside, "make it blue", seed=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "asked",
    [
        ({"size": "64x64"}, {"size": "96x64"}),
        ({"steps": 40, "guidance": 1.5}, {"steps": 30, "guidance": 4}),
    ],
)
def test_two_pictures_can_be_drawn_in_turns(client, asked):
    alone = [client.generate(SAID, seed=1, **options).image.bytes for options in asked]
    jobs = [client.submit(SAID, seed=1, **options) for options in asked]
    assert [job.result().image.bytes for job in jobs] == alone


def test_a_picture_that_was_given_up_leaves_nothing_behind(client):
    whole = client.generate(SAID, seed=1).image.bytes
    stream = client.stream_generate(SAID, seed=2, steps=20)
    for event in stream:
        if isinstance(event, Progress) and event.unit == "steps" and event.done == 3:
            break
    stream.close()
    assert client.generate(SAID, seed=1).image.bytes == whole


def test_progress_counts_tokens_and_then_steps(client):
    events = list(client.stream_generate(SAID, seed=1))
    seen = [event for event in events if isinstance(event, Progress)]
    tokens = [event for event in seen if event.unit == "tokens"]
    steps = [event for event in seen if event.unit == "steps"]
    assert (tokens[-1].done, tokens[-1].total) == (260, 260)
    assert [(event.done, event.total) for event in steps] == [(1, STEPS), (2, STEPS)]
    assert seen.index(tokens[-1]) < seen.index(steps[0])
    assert isinstance(events[-1], Completed)


@pytest.mark.parametrize("speed", ["exact", "fast"])
def test_progress_of_several_pictures_runs_to_the_end_once(tiny, speed):
    with ImageClient(f"autoregressive/{tiny}", device="cpu", speed=speed) as client:
        events = list(client.stream_generate(SAID, seed=1, n=2))
    steps = [each for each in events if isinstance(each, Progress) and each.unit == "steps"]
    assert [event.done for event in steps] == list(range(1, 2 * STEPS + 1))
    assert {event.total for event in steps} == {2 * STEPS}


@pytest.mark.parametrize("word", ["<|image|>", "<sop>", "<|begin|>", "<|code_3|>"])
def test_control_tokens_in_a_prompt_are_refused(client, word):
    with pytest.raises(InvalidInput, match="controls the model"):
        client.generate(f"a boat {word}")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"size": "4096x4096"}, UnsupportedOption, "cannot make"),
        ({"negative_prompt": "x"}, UnsupportedOption, "empty text"),
        ({"previews": 2}, UnsupportedOption, "show nothing before"),
        ({"guidance": 0.5}, InvalidInput, "takes 1 to"),
        ({"extra": {"strength": 3}}, UnsupportedOption, "strength"),
    ],
)
def test_what_it_cannot_do_is_refused(client, options, error, match):
    with pytest.raises(error, match=match):
        client.plan(SAID, **options)


def test_a_prompt_that_does_not_fit_is_refused(client):
    with pytest.raises(InvalidInput, match="reads 1,024"):
        client.generate("boat " * 200)


def test_the_card_says_what_it_is():
    with ImageClient("autoregressive/zai-org/GLM-Image") as client:
        card = client.describe()
        assert str(card.paradigm) == "hybrid"
        assert [str(mode) for mode in card.edits] == ["instruct"]
        # How the checkpoint wants to be sampled is in its files, which are not here.
        assert "temperature" not in client.plan(SAID).calls[0].payload


def test_pickled_weights_are_not_loaded(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "copy")
    part = folder / "vision_language_encoder"
    (part / "model.safetensors").rename(part / "pytorch_model.bin")
    client = ImageClient(f"autoregressive/{folder}", device="cpu")
    with client, pytest.raises(InvalidInput, match="safetensors files only"):
        client.generate(SAID)


def test_without_diffusers_the_pip_command_is_named(tiny):
    code = f"""
import sys
sys.modules["diffusers"] = None
from diptych import ImageClient
from diptych.errors import ProviderNotInstalled
with ImageClient({f"autoregressive/{tiny}"!r}, device="cpu") as client:
    client.plan("a boat")
    assert "torch" not in sys.modules
    try:
        client.generate("a boat")
    except ProviderNotInstalled as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'diptych-autoregressive[glm]'" in ran.stdout, ran.stderr


def test_the_other_local_engine_is_not_needed(tiny):
    code = f"""
import sys
sys.modules["diptych_diffusers"] = None
from diptych import ImageClient
with ImageClient({f"autoregressive/{tiny}"!r}, device="cpu") as client:
    print(client.generate("a boat", size=(64, 64), steps=1).image.size)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "(64, 64)" in ran.stdout, ran.stderr
