"""LlamaGen from a text: a tiny T5 beside the fixture's transformer, through `ImageClient`."""

from __future__ import annotations

import pytest
import torch
from diptych_autoregressive.llamagen.captions import LENGTH, Captions
from diptych_autoregressive.llamagen.cleaning import cleaned
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from diptych import ImageClient
from diptych.errors import InvalidInput

from .parity import Case, Folder, needs_parity

WORDS = ["<pad>", "</s>", "<unk>", "a", "fox", "reading", "book", "raccoon", ",", "-"]
T2I = Folder(
    Case("llamagen/t2i"),
    {"weights": "t2i_tiny_96.safetensors", "vq": "vq_ds16_t2i.safetensors"},
    {"heads": 4},
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A T5 of the width that the fixture's captions have, with a tokenizer of ten words."""
    folder = tmp_path_factory.mktemp("encoders") / "flan-t5-tiny"
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(WORDS),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
    )
    T5EncoderModel(config).save_pretrained(folder)
    inner = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def captions(encoder):
    return Captions.load(encoder, "cpu", torch.float32)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    made = T2I.write(tmp_path_factory.mktemp("checkpoints") / "t2i")
    (made / "flan-t5-tiny").symlink_to(encoder)
    return made


@pytest.mark.parametrize(
    ("caption", "clean"),
    [
        ("A Fox", "a fox"),
        ("a fox, reading  a\nbook.", "a fox, reading a book"),
        ("see https://example.org/a?b=c and www.example.org now", "see and now"),
        ("<b>a</b> fox &amp;amp; a raccoon", "a fox & a raccoon"),
        ("a fox \N{EM DASH} \N{LEFT DOUBLE QUOTATION MARK}red\N{RIGHT DOUBLE QUOTATION MARK}!!", 'a fox - "red"!'),
        ("photo by @someone #12345", "photo by"),
        ("&lt;i&gt;a fox&lt;/i&gt;", "a fox"),
        ("*** ^^", ""),
    ],
)  # fmt: skip
def test_captions_are_cleaned_as_for_training(caption, clean):
    assert cleaned(caption) == clean
    assert cleaned(clean) == clean


def test_features_stand_at_the_right_end_and_are_zero_before(captions):
    features, mask = captions(["a fox", "a raccoon reading a book"])
    assert features.shape == (2, LENGTH, 32)
    assert mask.sum(1).tolist() == [3, 6]  # with the end token
    assert mask[0, -3:].all()
    assert not features[0, :-3].any()
    assert (features[0, -3:] != 0).all()


def test_features_do_not_depend_on_the_other_captions(captions):
    alone, _ = captions(["a fox"])
    together, _ = captions(["a fox", "a raccoon reading a book, a fox reading a book"])
    assert torch.allclose(alone[0], together[0], atol=1e-5)


def test_a_caption_that_is_too_long_is_refused(captions):
    with pytest.raises(InvalidInput, match="151 tokens long and the model reads 120"):
        captions(["fox " * 150])


@needs_parity
def test_a_text_draws_a_picture(folder):
    with ImageClient(f"autoregressive/{folder}") as client:
        fox = client.generate("A fox reading a book.", seed=3, n=2)
        assert fox.image.size == (96, 96)
        assert not fox.notices
        assert fox.image.bytes == client.generate("a fox reading a book", seed=3).image.bytes
        assert fox[1].bytes == client.generate("a fox reading a book", seed=4).image.bytes
        raccoon = client.generate("a raccoon reading a book", seed=3)
        assert raccoon.image.bytes != fox.image.bytes


@needs_parity
def test_what_was_cleaned_away_is_noticed_and_nothing_is_refused(folder):
    with ImageClient(f"autoregressive/{folder}") as client:
        plan = client.plan("A fox, see https://example.org")
        assert plan.calls[0].payload["prompt"] == "a fox, see"
        assert [notice.option for notice in plan.notices] == ["prompt"]
        with pytest.raises(InvalidInput, match="no words"):
            client.plan("***")
        with pytest.raises(InvalidInput, match="reads 120"):
            client.generate("fox " * 150)


@needs_parity
def test_an_encoder_of_another_width_is_refused(folder, tmp_path):
    other = T2I.write(tmp_path / "t2i")
    config = T5Config(vocab_size=4, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(other / "t5")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / "t5" / name).write_bytes((folder / "flan-t5-tiny" / name).read_bytes())
    with (
        ImageClient(f"autoregressive/{other}") as client,
        pytest.raises(InvalidInput, match="16 wide"),
    ):
        client.generate("a fox")
