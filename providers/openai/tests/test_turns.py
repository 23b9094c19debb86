"""Conversations on the Responses API: the three ways to go on, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from diptych.errors import ContentBlocked, MalformedResponse, ProviderError, UnsupportedOption
from diptych.events import Preview, TextDelta
from diptych.image import Image
from diptych.mask import Mask
from diptych.plan import Call
from diptych.testing.peers import (
    OpenAIPeer,
    azure_stream,
    failed_call,
    failed_response,
    incomplete_response,
    status,
)

MODEL = "gpt-image-2"
STATE = {
    "said": [{"role": "user", "content": "a fox"}, {"role": "assistant", "content": "Here."}],
    "response_id": "resp_1",
    "image_id": "ig_1",
}


def parts(call: Call) -> list[Mapping[str, Any]]:
    """What the user says in this turn."""
    content: list[Mapping[str, Any]] = call.payload["input"][-1]["content"]
    return content


def test_the_first_turn_forces_the_tool_and_names_its_model(bench: Callable[..., Any]) -> None:
    (call,) = bench().plan(MODEL, state={}, size="1024x1024", quality="low").calls
    assert call.target == "https://api.openai.com/v1/responses"
    assert call.payload == {
        "model": "gpt-5.4",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a fox"}]}],
        "tools": [
            {"type": "image_generation", "model": MODEL, "size": "1024x1024", "quality": "low"}
        ],
        "tool_choice": {"type": "image_generation"},
    }


def test_a_later_turn_names_the_response_and_sends_no_picture(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    (call,) = bench().plan(MODEL, "a raccoon", state=STATE, image=picture()).calls
    assert call.payload["previous_response_id"] == "resp_1"
    assert parts(call) == [{"type": "input_text", "text": "a raccoon"}]


def test_by_image_the_picture_is_named_and_the_words_are_repeated(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    made = bench(continue_by="image").plan(MODEL, "a raccoon", state=STATE, image=picture())
    (call,) = made.calls
    assert "previous_response_id" not in call.payload
    assert call.payload["input"][:-1] == [
        *STATE["said"],
        {"type": "image_generation_call", "id": "ig_1"},
    ]
    assert len(parts(call)) == 1


def test_without_storage_the_picture_is_sent_again(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    source, state = picture(), {"said": STATE["said"]}
    (call,) = bench(store=False).plan(MODEL, "a raccoon", state=state, image=source).calls
    assert call.payload["store"] is False
    assert "previous_response_id" not in call.payload
    assert call.payload["input"][:-1] == STATE["said"]
    assert parts(call)[1:] == [{"type": "input_image", "image_url": source}]


def test_a_picture_from_outside_and_references_go_along(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    source, other = picture((64, 48)), picture((32, 32))
    (call,) = bench().plan(MODEL, "make it red", state={}, image=source, references=[other]).calls
    assert [part.get("image_url") for part in parts(call)] == [None, other, source]
    assert call.payload["tools"][0]["action"] == "edit"


def test_a_mask_goes_to_the_tool_with_the_picture_it_is_for(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    source, mask = picture(), Mask.box((0, 0, 8, 8), size=(64, 48))
    (call,) = bench().plan(MODEL, "a hat", state=STATE, image=source, mask=mask).calls
    tool = call.payload["tools"][0]
    assert tool["input_image_mask"]["image_url"].size == (64, 48)
    assert tool["action"] == "edit"
    assert parts(call)[-1] == {"type": "input_image", "image_url": source}
    assert call.payload["previous_response_id"] == "resp_1"


def test_after_a_masked_turn_the_picture_that_was_put_together_is_sent(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    # The service has its own picture, in which the protected pixels had changed.
    source, state = picture(), {**STATE, "composited": True}
    (call,) = bench().plan(MODEL, "a raccoon", state=state, image=source).calls
    assert parts(call)[-1] == {"type": "input_image", "image_url": source}


def test_settings_and_extras_find_their_place(bench: Callable[..., Any]) -> None:
    settings = {"chat_model": "gpt-6-luna", "instructions": "Paint at once.", "store": True}
    extra = {
        "moderation": "low",
        "complexity": "high",
        "safety_identifier": "u-1",
        "reasoning": {"effort": "low"},
        "tool_choice": "auto",
    }
    (call,) = bench(**settings).plan("gpt-image-2.6-flare", state={}, extra=extra).calls
    tool = call.payload["tools"][0]
    assert (tool["moderation"], tool["complexity"]) == ("low", "high")
    body = {name: value for name, value in call.payload.items() if name not in ("input", "tools")}
    assert body == {
        "model": "gpt-6-luna",
        "tool_choice": "auto",
        "store": True,
        "instructions": "Paint at once.",
        "safety_identifier": "u-1",
        "reasoning": {"effort": "low"},
    }


def test_several_pictures_in_one_turn_are_refused(bench: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedOption, match="one picture") as caught:
        bench().plan(MODEL, state={}, n=2)
    assert caught.value.option == "n"


def test_markup_has_no_place_in_a_conversation(
    bench: Callable[..., Any], picture: Callable[..., Image]
) -> None:
    with pytest.raises(UnsupportedOption, match="conversation"):
        bench().plan("gpt-image-2.5-flare", state={}, image=picture(), extra={"markup": picture()})


# Against a server


@pytest.mark.parametrize(
    "settings", [{}, {"continue_by": "image"}, {"continue_by": "bytes"}, {"store": False}]
)
def test_a_conversation_goes_on_in_every_way(
    bench: Callable[..., Any], peer: OpenAIPeer, settings: dict[str, Any]
) -> None:
    made = bench(peer, **settings)
    first = made.run(made.plan(MODEL, state={}).calls[0])
    second = made.plan(MODEL, "a raccoon", state=first.state, image=first.images[0])
    assert second.mode == "continue"
    result = made.run(second.calls[0])
    assert len(result.images) == 1
    # The service saw the picture of the first turn: it did not paint from nothing.
    assert peer.last("responses").seen.sources == (first.images[0].size,)


def test_text_usage_and_the_answering_model_are_kept(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    peer.text = "Here is your fox."
    made = bench(peer)
    result = made.run(made.plan(MODEL, state={}).calls[0])
    assert result.text == "Here is your fox."
    assert result.model == "openai/gpt-image-2"
    assert result.request_id.startswith("req_")
    body = result.raw
    usage = result.usage
    assert usage.output_image_tokens == body["tool_usage"]["image_gen"]["output_tokens"]
    assert usage.chat.total_tokens == body["usage"]["total_tokens"]


def test_the_cost_of_a_turn_is_unknown_but_that_of_its_picture_is_told(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    made = bench(peer)
    result = made.run(made.plan(MODEL, state={}).calls[0])
    assert result.cost.amount is None
    assert [each.kind for each in result.notices] == ["cost"]


@pytest.mark.parametrize("fault", [None, azure_stream()])
def test_a_streamed_turn_shows_previews_and_words(
    bench: Callable[..., Any], peer: OpenAIPeer, fault: Any
) -> None:
    if fault is not None:
        peer.fault(fault)
    made = bench(peer)
    *shown, result = made.events(made.plan(MODEL, state={}, previews=2).calls[0])
    assert [each.index for each in shown if isinstance(each, Preview)] == [0, 1]
    said = "".join(each.text for each in shown if isinstance(each, TextDelta))
    assert said == result.text != ""
    assert len(result.images) == 1
    assert result.state["response_id"]


@pytest.mark.parametrize("previews", [None, 1])
def test_moderation_inside_a_200(
    bench: Callable[..., Any], peer: OpenAIPeer, previews: int | None
) -> None:
    peer.fault(failed_call("input", ("sexual", "violence")))
    peer.text = ""
    made = bench(peer)
    with pytest.raises(ContentBlocked) as caught:
        made.run(made.plan(MODEL, state={}, previews=previews).calls[0])
    assert (caught.value.stage, caught.value.categories) == ("input", ("sexual", "violence"))
    assert caught.value.request_id
    assert not caught.value.retryable


@pytest.mark.parametrize("previews", [None, 1])
@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (failed_response(), ContentBlocked, "image_content_policy_violation"),
        (incomplete_response(), ContentBlocked, "content_filter"),
        (incomplete_response("max_output_tokens"), ProviderError, "max_output_tokens"),
        (failed_response("image_too_small", "Too small."), ProviderError, "image_too_small"),
    ],
)
def test_responses_that_ended_badly(
    bench: Callable[..., Any],
    peer: OpenAIPeer,
    previews: int | None,
    fault: Any,
    kind: type[ProviderError],
    code: str,
) -> None:
    peer.fault(fault)
    made = bench(peer)
    with pytest.raises(kind) as caught:
        made.run(made.plan(MODEL, state={}, previews=previews).calls[0])
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert peer.paid_posts == 1


def test_words_without_a_picture_are_an_outcome(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    body = {
        "id": "resp_2",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Which fox?"}]}],
    }
    peer.fault(status(200, body))
    made = bench(peer)
    result = made.run(made.plan(MODEL, state={}, extra={"tool_choice": "auto"}).calls[0])
    assert (result.images, result.text) == ((), "Which fox?")
    assert result.state["response_id"] == "resp_2"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ([{"type": "refusal", "refusal": "I cannot paint that."}], ContentBlocked),
        ([{"type": "output_text", "text": ""}], MalformedResponse),
    ],
)
def test_answers_with_nothing_in_them(
    bench: Callable[..., Any], peer: OpenAIPeer, content: Any, kind: type[Exception]
) -> None:
    peer.fault(status(200, {"id": "r", "output": [{"type": "message", "content": content}]}))
    made = bench(peer)
    with pytest.raises(kind):
        made.run(made.plan(MODEL, state={}).calls[0])


def test_a_model_that_another_answers_for_is_noticed(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    item = {
        "type": "image_generation_call",
        "id": "ig_2",
        "status": "completed",
        "result": picture().data_url().partition(",")[2],
    }
    tools = [{"type": "image_generation", "model": "gpt-image-1-mini"}]
    peer.fault(status(200, {"id": "resp_2", "tools": tools, "output": [item]}))
    made = bench(peer)
    result = made.run(made.plan(MODEL, state={}).calls[0])
    assert result.model == "openai/gpt-image-1-mini"
    assert any(each.kind == "mismatch" and each.option == "model" for each in result.notices)
