"""What the shipped models do, through `ImageClient` and on a CPU: seeds, guidance, edits, masks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from training import judge

from diptych import Image, ImageClient, Mask, Result

PROMPT = "pixel art of a dragon holding a sword at night"
ASKED = {"subject": "dragon", "item": "sword", "background": "night", "style": "pixel art"}
OPTIONS = {"diffusers/pocket": {"steps": 8}, "autoregressive/pocket": {}}
UNGUIDED = {"diffusers/pocket": 1.0, "autoregressive/pocket": 0.5}
SEED = 1

ALONE = """
import hashlib, sys
from diptych import ImageClient
model, prompt, seed, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
client = ImageClient(model)
client.describe()
client.plan(prompt, seed=seed, **options)
assert "torch" not in sys.modules, "torch was loaded before anything was drawn"
image = client.generate(prompt, seed=seed, **options).image
assert "torch" in sys.modules
print(hashlib.sha256(image.numpy().tobytes()).hexdigest())
"""


@pytest.fixture(scope="module", params=OPTIONS)
def client(request: pytest.FixtureRequest) -> Iterator[ImageClient]:
    with ImageClient(request.param) as client:
        yield client


@pytest.fixture(scope="module")
def diffusion() -> Iterator[ImageClient]:
    with ImageClient("diffusers/pocket") as client:
        yield client


@pytest.fixture(scope="module")
def drawn(client: ImageClient) -> Result:
    return client.generate(PROMPT, n=2, seed=SEED, **OPTIONS[client.model])


@pytest.fixture(scope="module")
def fox(diffusion: ImageClient) -> Image:
    return diffusion.generate("a fox on a green background", seed=SEED, steps=8).image


def pixels(image: Image) -> np.ndarray:
    return image.numpy()[..., :3].astype(int)


def read(image: Image) -> judge.Reading:
    return judge.read([image.pil()])[0]


def test_a_picture_does_not_depend_on_its_batch(client, drawn):
    alone = client.generate(PROMPT, seed=SEED + 1, **OPTIONS[client.model]).image
    assert [image.seed for image in drawn] == [SEED, SEED + 1]
    assert (pixels(alone) == pixels(drawn[1])).all()
    assert (pixels(alone) != pixels(drawn[0])).any()


def test_another_process_draws_the_same_picture_and_loads_torch_only_then(client, drawn):
    options = OPTIONS[client.model]
    arguments = [client.model, PROMPT, str(SEED), repr(options)]
    command = [sys.executable, "-W", "error", "-c", ALONE, *arguments]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == hashlib.sha256(drawn[0].numpy().tobytes()).hexdigest()
    assert found.stderr == ""


def test_guidance_makes_pictures_show_more_of_what_was_asked(client, drawn):
    options = {**OPTIONS[client.model], "guidance": UNGUIDED[client.model]}
    unguided = client.generate(PROMPT, n=2, seed=SEED, **options)
    sure, unsure = (
        np.mean(judge.certainty([image.pil() for image in result], ASKED))
        for result in (drawn, unguided)
    )
    assert sure > unsure
    assert sure > 0.6


def test_the_more_change_the_further_from_the_source(diffusion, fox):
    distances = []
    for change in (0.3, 0.6, 0.95):
        edited = diffusion.edit(fox, "a wolf", mode="img2img", change=change, seed=SEED, steps=8)
        distances.append(np.abs(pixels(edited.image) - pixels(fox)).mean())
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0]


def test_pixels_outside_a_mask_stay_bit_identical(client, fox):
    mask = Mask.box((64, 0, 128, 128), size=fox.size)
    prompt = "a fox next to a balloon on a green background"
    result = client.edit(fox, prompt, mask=mask, seed=SEED, **OPTIONS[client.model])
    before, after = pixels(fox), pixels(result.image)
    assert (after[:, :64] == before[:, :64]).all()
    assert np.abs(after[:, 64:] - before[:, 64:]).mean() > 2


EDITS = {
    "Then make a variant where it's a raccoon.": {"subject": "raccoon"},
    "make it at night": {"background": "night"},
    "add a crown": {"wear": "crown"},
}


def test_an_edit_in_a_conversation_changes_what_was_asked_and_keeps_the_rest(client):
    options = OPTIONS[client.model]
    chat = client.conversation()
    first = read(
        chat.send("a watercolor of a fox reading a book in the snow", seed=2, **options).image
    )
    assert (first.subject, first.item, first.background) == ("fox", "book", "snow")
    kept = []
    for text, asked in EDITS.items():
        second = read(chat.fork().send(text, seed=3, **options).image)
        assert {key: getattr(second, key) for key in asked} == asked
        rest = {"subject", "item", "wear", "background", "style"} - set(asked)
        kept += [getattr(second, key) == getattr(first, key) for key in rest]
    assert np.mean(kept) >= 0.9
