"""What arrives at OpenAI: the peer says what it understood."""

from __future__ import annotations

import pytest
from PIL import Image as Pillow

from diptych import Image, ImageClient, Mask, Preview, TextDelta
from diptych.errors import InvalidInput, RetiredModel, UnsupportedOption
from diptych.testing.peers import OpenAIPeer, missing, status

PHOTO = Image.of(Pillow.effect_noise((1024, 1024), 90).convert("RGB"))
REFERENCE = Image.of(Pillow.effect_noise((64, 64), 90).convert("RGB"))


@pytest.fixture
def peer():
    with OpenAIPeer() as running:
        yield running


def client(peer, model="gpt-image-2", **settings):
    return ImageClient(f"openai/{model}", api_key=peer.key, base_url=peer.base_url, **settings)


def test_white_in_a_mask_is_what_openai_changes(peer):
    mask = Mask.box((0, 0, 512, 512), size=(1024, 1024))
    with client(peer) as openai:
        openai.edit(PHOTO, "a balloon", mask=mask)
    assert peer.last("edit").seen.change == pytest.approx(0.25)


def test_the_models_name_is_always_sent(peer):
    with client(peer) as openai:
        openai.generate("a fox")
        openai.edit(PHOTO, "a raccoon")
        openai.conversation().send("Draw a fox.")
    generated, edited, turned = peer.requests
    assert generated.json["model"] == "gpt-image-2"
    assert edited.form["model"] == "gpt-image-2"
    assert turned.json["tools"][0]["model"] == "gpt-image-2"
    assert turned.json["tool_choice"] == {"type": "image_generation"}


def test_several_pictures_go_as_a_list(peer):
    with client(peer) as openai:
        openai.edit(PHOTO, "in this style", references=[REFERENCE, REFERENCE])
    assert [upload.field for upload in peer.last("edit").files] == ["image[]"] * 3


def test_references_without_a_picture_are_an_edit_of_them(peer):
    with client(peer) as openai:
        openai.generate("in this style", references=[REFERENCE])
    assert peer.last("edit").files[0].data == REFERENCE.bytes


def test_a_format_openai_does_not_read_is_converted_with_a_notice(peer):
    with client(peer) as openai:
        result = openai.edit(PHOTO.convert("bmp"), "a raccoon")
    assert peer.last("edit").files[0].data.startswith(b"\x89PNG")
    assert any("bmp" in notice.message.lower() for notice in result.notices)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": "high"},
        {"size": "1536x1024"},
        {"background": "opaque"},
        {"format": "webp"},
        {"extra": {"output_compression": 40}, "format": "jpeg"},
        {"extra": {"moderation": "low"}},
        {"extra": {"safety_identifier": "user-1"}},
    ],
)
def test_options_arrive_under_openais_names(peer, options):
    with client(peer) as openai:
        openai.generate("a fox", **options)
    extra = options.pop("extra", {})
    names = {"format": "output_format"}
    expected = {names.get(name, name): value for name, value in options.items()} | extra
    assert expected.items() <= peer.last("generate").json.items()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seed": 1}, UnsupportedOption),
        ({"steps": 4}, UnsupportedOption),
        ({"guidance": 3}, UnsupportedOption),
        ({"negative_prompt": "rain"}, UnsupportedOption),
        ({"size": "1000x1000"}, UnsupportedOption),
        ({"quality": "ultra"}, InvalidInput),
        ({"background": "transparent", "format": "jpeg"}, InvalidInput),
        ({"extra": {"output_compression": 101}, "format": "webp"}, InvalidInput),
        ({"extra": {"quality": "low"}, "quality": "high"}, InvalidInput),
    ],
)
def test_what_openai_would_refuse_is_refused_before_it_is_sent(peer, options, error):
    with client(peer) as openai, pytest.raises(error):
        openai.generate("a fox", **options)
    assert peer.requests == []


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("dall-e-2", "2026-05-12"),
        ("dall-e-3", "2026-05-12"),
        ("gpt-image-1", "2026-10-23"),
        ("gpt-4o image", "shut down"),
    ],
)
def test_retired_names_are_told(peer, model, day):
    with client(peer, model) as openai, pytest.raises(RetiredModel, match=day) as told:
        openai.generate("a fox")
    assert told.value.successor
    assert peer.requests == []


def test_a_conversation_continues_from_the_response(peer):
    with client(peer) as openai:
        chat = openai.conversation()
        first = chat.send("Draw a fox.")
        chat.send("Make it a raccoon.")
    assert peer.last("responses").json["previous_response_id"] == first.raw["id"]


def test_without_store_the_picture_itself_is_sent_again(peer):
    with client(peer, store=False) as openai:
        chat = openai.conversation()
        chat.send("Draw a fox.")
        result = chat.send("Make it a raccoon.")
    sent = peer.last("responses").json
    assert sent["store"] is False
    assert "previous_response_id" not in sent
    assert "data:image/png;base64," in str(sent["input"])
    assert result.image.width > 0


def test_the_image_tools_tokens_are_apart_from_the_chat_models(peer):
    with client(peer) as openai:
        usage = openai.conversation().send("Draw a fox.").usage
    assert usage.output_image_tokens
    assert usage.chat.total_tokens


def test_previews_and_text_are_streamed(peer):
    with client(peer) as openai:
        events = list(openai.stream_generate("a fox", previews=2))
    assert [event.index for event in events if isinstance(event, Preview)] == [0, 1]
    assert not any(isinstance(event, TextDelta) for event in events)
    assert peer.last("generate").json["partial_images"] == 2


def test_a_server_that_reports_no_usage_costs_an_unknown_amount(peer):
    peer.fault(missing("usage", "size", "quality"), on="generate")
    with client(peer) as openai:
        result = openai.generate("a fox")
    assert result.usage is None
    assert result.cost.amount is None


@pytest.mark.parametrize("body", [{"error": "no model"}, {"detail": "no model"}, "no model"])
def test_errors_of_compatible_servers_are_told(peer, body):
    peer.fault(status(400, body))
    with client(peer) as openai, pytest.raises(Exception, match="no model"):
        openai.generate("a fox")


def test_azure_is_reached_by_its_settings(peer):
    settings = {"azure_endpoint": peer.azure_endpoint, "api_version": "2025-04-01-preview"}
    with ImageClient("openai/gpt-image-2", api_key=peer.key, **settings) as azure:
        azure.generate("a fox")
    assert peer.last("generate").path.startswith("/openai/deployments/gpt-image-2/")


def test_every_model_of_the_sdk_is_known():
    from typing import get_args

    from diptych_openai.provider import OpenAIProvider
    from openai.types import ImageModel

    from diptych.provider import Settings

    provider = OpenAIProvider(Settings())
    names = [name for each in get_args(ImageModel) for name in get_args(each) or [each]]
    assert [name for name in names if isinstance(name, str) and not provider.card(name).known] == []
