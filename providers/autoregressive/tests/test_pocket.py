"""autoregressive/pocket on its real weights: the engine, conversations, edits."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, DynamicCache, Emu3ForConditionalGeneration

from diptych import Image, ImageClient, Mask
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.events import Completed, Preview, Progress

pocket = pytest.importorskip("diptych_pocket", reason="the pocket models are not installed")

REF = "autoregressive/pocket"
FOX = "a watercolor of a fox reading a book"


@pytest.fixture(scope="module")
def client():
    with ImageClient(REF, device="cpu") as client:
        yield client


@pytest.fixture(scope="module")
def fox(client):
    return client.generate(FOX, seed=7).image


def beside(prompts: tuple[str, str], seed: int) -> np.ndarray:
    """The picture that transformers makes, by a loop that does one thing after another."""
    folder = pocket.autoregressive()
    said = json.loads((folder / "diptych.json").read_text())
    words = AutoTokenizer.from_pretrained(folder)
    model = Emu3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    ids, defaults = said["tokens"], said["defaults"]
    first, last = ids["first_visual"], ids["first_visual"] + ids["visual"]
    opening = [ids["boi"], *ids["area"], ids["image_wrapper"]]
    rows = [
        [ids["bos"], *words(text, add_special_tokens=False).input_ids, *opening] for text in prompts
    ]
    caches = [DynamicCache(), DynamicCache()]
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = []
    with torch.no_grad():
        while len(tokens) < 16 * 17:
            scores = []
            for row, cache in zip(rows, caches, strict=True):
                out = model(torch.tensor([row]), past_key_values=cache, use_cache=True)
                scores.append(out.logits[0, -1, first:last].log_softmax(-1))
            if len(tokens) % 17 == 16:
                token = ids["eol"]
            else:
                text, empty = scores
                mixed = (empty + defaults["guidance_scale"] * (text - empty)) / defaults[
                    "temperature"
                ]
                mixed[mixed < mixed.topk(defaults["top_k"]).values[-1]] = -torch.inf
                token = first + torch.multinomial(mixed.softmax(-1), 1, generator=generator).item()
            tokens.append(token)
            rows = [[token], [token]]
        closed = torch.tensor([[*tokens, ids["eof"], ids["eoi"], ids["eos"]]])
        pixels = model.decode_image_tokens(image_tokens=closed, height=16, width=16)[0]
    array: np.ndarray = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return array


def test_a_picture_is_the_one_that_transformers_makes(fox):
    assert np.array_equal(fox.numpy(), beside((FOX, ""), 7))


def test_decoding_several_tokens_a_pass_changes_nothing(client):
    # "fast" draws a batch token by token; "exact" draws each picture by several tokens a pass.
    exact = client.generate(FOX, seed=100, n=3)
    with ImageClient(REF, device="cpu", speed="fast") as other:
        sequential = other.generate(FOX, seed=100, n=3)
    assert [each.bytes for each in exact] == [each.bytes for each in sequential]
    assert exact.usage.tokens == sequential.usage.tokens == 3 * 256
    assert exact.usage.tokens >= 1.8 * exact.usage.steps


def test_each_picture_of_a_batch_has_its_own_seed(client, fox):
    batch = client.generate(FOX, seed=6, n=2)
    assert [image.seed for image in batch] == [6, 7]
    assert batch.images[1].bytes == fox.bytes


def test_settings_change_the_picture(client, fox):
    for options in ({"guidance": 1.0}, {"negative_prompt": "a fox"}, {"extra": {"top_k": 4}}):
        assert client.generate(FOX, seed=7, **options).image.bytes != fox.bytes


def test_words_that_the_model_does_not_know_are_named(client):
    notices = client.plan("a portrait of a physicist").notices
    assert any("'physicist'" in notice.message for notice in notices)
    assert not client.plan(FOX).notices


def test_only_its_own_size(client):
    assert client.generate(FOX, seed=7, size="128x128").image.size == (128, 128)
    with pytest.raises(UnsupportedOption, match="128x128"):
        client.plan(FOX, size="256x256")


def test_progress_is_told_in_tokens_and_previews_fill_from_the_top(client, fox):
    events = list(client.stream_generate(FOX, seed=7, previews=3))
    done = [event.done or 0 for event in events if isinstance(event, Progress)]
    assert {event.total for event in events if isinstance(event, Progress)} == {256}
    assert {event.unit for event in events if isinstance(event, Progress)} == {"tokens"}
    assert done == sorted(set(done))
    assert done[-1] == 256
    shown = [event for event in events if isinstance(event, Preview)]
    assert [event.index for event in shown] == [0, 1, 2]
    for event, rows in zip(shown, (4, 8, 12), strict=True):
        picture, whole = event.image.numpy().astype(int), fox.numpy().astype(int)
        assert picture.shape == whole.shape
        # The decoder normalises over the whole picture, so that colours shift a little.
        top = slice(0, rows * 8 - 24)
        assert abs(picture[top] - whole[top]).mean() < abs(whole[top] - 128).mean() / 4
        assert (picture[rows * 8 :] == picture[-1, -1]).all()
    assert isinstance(events[-1], Completed)
    assert events[-1].result.image.bytes == fox.bytes


def test_without_a_watcher_no_preview_is_made(client):
    with pytest.raises(InvalidInput, match="previews"):
        client.generate(FOX, previews=101)
    events = list(client.stream_generate(FOX, seed=7, previews=0))
    assert not any(isinstance(event, Preview) for event in events)


def test_a_stream_can_be_left_at_any_token(client, fox):
    stream = client.stream_generate(FOX, seed=3, n=8)
    for event in stream:
        if isinstance(event, Progress) and event.done > 20:
            break
    stream.close()
    assert client.generate(FOX, seed=7).image.bytes == fox.bytes


def test_threads_share_a_client(client, fox):
    drawn: dict[int, bytes] = {}

    def draw(seed: int) -> None:
        drawn[seed] = client.generate(FOX, seed=seed).image.bytes

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in (7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn[7] == fox.bytes
    assert drawn[8] == client.generate(FOX, seed=8).image.bytes


TURNS = (
    "Generate a watercolor of a fox reading a book.",
    "Then make a variant where it's a raccoon.",
    "make it at night",
    "add a crown",
    "remove the book",
)

RELOAD = """
import sys
from diptych import ImageClient
client = ImageClient(sys.argv[1], device="cpu")
chat = client.load_conversation(open(sys.argv[2], encoding="utf-8").read())
image = chat.send(sys.argv[3], seed=int(sys.argv[4])).image
open(sys.argv[5], "wb").write(image.bytes)
"""


@pytest.fixture(scope="module")
def talk(client):
    chat = client.conversation()
    for turn in TURNS:
        chat.send(turn, seed=7)
    return chat


def test_a_conversation_goes_on_with_its_tokens(talk):
    assert [turn.mode for turn in talk.turns] == ["generate"] + ["continue"] * 4
    assert len({turn.image.bytes for turn in talk.turns}) == 5
    assert talk.turns[-1].description == "a watercolor of a raccoon with a crown at night"


def test_from_the_fourth_picture_on_a_new_sequence_begins_and_says_so(talk):
    told = [[notice.message for notice in turn.result.notices] for turn in talk.turns]
    assert told[:3] == [[], [], []]
    assert any("3 pictures in a row" in message for message in told[3])
    assert any("raccoon reading a book at night" in message for message in told[3])
    assert told[4] == []
    pictures = [len(turn.state["sequence"]) for turn in talk.turns]
    assert pictures == [1, 2, 3, 2, 3]


def test_undo_and_fork_cut_the_sequence(client, talk):
    fork = talk.fork(at=2)
    again = fork.send(TURNS[2], seed=7)
    assert again.image.bytes == talk.turns[2].image.bytes
    other = talk.fork(at=2).send("make it a neon sign", seed=7)
    assert other.image.bytes != again.image.bytes
    fork.undo()
    assert fork.send(TURNS[2], seed=7).image.bytes == again.image.bytes


def test_another_process_goes_on_to_the_same_picture(talk, tmp_path):
    fork = talk.fork(at=3)
    (tmp_path / "chat.json").write_text(fork.to_json(), encoding="utf-8")
    here = fork.send("make it a penguin", seed=9).image
    made = tmp_path / "made.png"
    values = (REF, tmp_path / "chat.json", "make it a penguin", "9", made)
    subprocess.run([sys.executable, "-c", RELOAD, *map(str, values)], check=True)
    assert made.read_bytes() == here.bytes


def test_the_state_is_small_and_plain(talk):
    text = json.dumps(dict(talk.turns[2].state))
    assert len(text) < 4000


def test_a_state_from_elsewhere_is_refused(client, talk):
    saved = json.loads(talk.fork(at=1).to_json())
    saved["turns"][0]["state"]["sequence"][0]["codes"] = "hAAAA"
    chat = client.load_conversation(json.dumps(saved))
    # The picture is no longer that of these codes, so it is encoded anew.
    assert any("encoded to tokens" in notice.message for notice in chat.plan("make it red").notices)


def test_a_converted_picture_is_still_the_conversations_own(client):
    chat = client.conversation()
    chat.send(FOX, seed=7, format="jpeg")
    assert chat.image.format == "jpeg"
    assert not chat.plan("make it at night").notices


def test_a_picture_from_elsewhere_is_encoded_and_that_is_said(client, fox):
    foreign = Image.of(fox.bytes)
    result = client.edit(foreign, "make it a raccoon", source_prompt=FOX, seed=7)
    assert result.plan.mode == "instruct"
    told = " ".join(notice.message for notice in result.notices)
    assert "encoded to tokens" in told
    assert f"captioned '{FOX}'" in told
    same = client.edit(foreign, "make it a raccoon", source_prompt=FOX, seed=7)
    assert same.image.bytes == result.image.bytes
    chat = client.conversation(image=foreign)
    chat.send("make it a raccoon", seed=7)
    assert chat.send("make it at night", seed=7).plan.mode == "continue"


def test_without_a_caption_the_drift_is_announced(client, fox):
    plan = client.plan_edit(Image.of(fox.bytes), "make it a raccoon")
    assert any("source_prompt" in notice.message for notice in plan.notices)


def test_an_edit_comes_back_at_the_size_of_its_picture(client, fox):
    large = Image.of(fox.pil().resize((200, 150)))
    assert client.edit(large, "make it a raccoon", seed=1).image.size == (200, 150)


def test_outside_a_mask_nothing_changes(client, fox):
    mask = Mask.box((20, 20, 100, 100), size=(128, 128))
    result = client.edit(fox, "make it a raccoon", mask=mask, seed=7)
    before, after = fox.numpy(), result.image.numpy()
    kept = np.ones((128, 128), dtype=bool)
    kept[20:100, 20:100] = False
    assert np.array_equal(before[kept], after[kept])
    assert not np.array_equal(before, after)


def test_planning_loads_no_torch():
    code = (
        "import sys; from diptych import ImageClient; c = ImageClient('autoregressive/pocket');"
        "c.describe(); c.plan('a fox', seed=1); assert 'torch' not in sys.modules;"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
