"""The Responses API of the OpenAI peer, asked by the real SDK: state, streams, refusals."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from diptych.testing.peers import OpenAIPeer, Seen

TOOL: dict[str, Any] = {"type": "image_generation", "model": "gpt-image-2", "size": "1024x1024"}
CHAT = "gpt-5.4"


@pytest.fixture
def peer() -> Iterator[OpenAIPeer]:
    with OpenAIPeer(text="Here it is.") as peer:
        yield peer


@pytest.fixture
def client(peer: OpenAIPeer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=peer.key, base_url=peer.base_url, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, text: Any = "a fox", **more: Any) -> Any:
    return client.responses.create(**{"model": CHAT, "input": text, "tools": [TOOL], **more})


def call_of(response: Any) -> Any:
    return next(item for item in response.output if item.type == "image_generation_call")


def seen(peer: OpenAIPeer) -> Seen:
    found = peer.last("responses").seen
    assert found is not None
    return found


def data_url(size: tuple[int, int], mode: str = "RGB", colour: Any = 0) -> str:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def test_a_turn_brings_text_and_a_picture_and_two_usages(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    response = ask(client)
    call = call_of(response)
    assert (call.action, call.size, call.status) == ("generate", "1024x1024", "completed")
    assert Image.open(io.BytesIO(base64.b64decode(call.result))).size == (1024, 1024)
    assert response.output_text == "Here it is."
    assert response.tool_usage.image_gen.output_tokens > 0
    assert response.usage.output_tokens != response.tool_usage.image_gen.output_tokens
    assert response.tools[0].model == "gpt-image-2"
    assert peer.paid_posts == 1


def test_previous_response_id_carries_the_picture_on(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    first = ask(client)
    second = ask(client, "now a raccoon", previous_response_id=first.id)
    assert call_of(second).action == "edit"
    assert seen(peer).sources == ((1024, 1024),)
    third = ask(client, "and a hat", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    assert len(seen(peer).sources) == 2
    fresh = ask(client, "x", previous_response_id=second.id, tools=[{**TOOL, "action": "generate"}])
    assert call_of(fresh).action == "generate"


def test_a_picture_can_be_named_by_its_id(peer: OpenAIPeer, client: openai.OpenAI) -> None:
    call = call_of(ask(client))
    items = [
        {"role": "user", "content": "a fox"},
        {"type": "image_generation_call", "id": call.id},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Here."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "a raccoon"}]},
    ]
    assert call_of(ask(client, items)).action == "edit"
    assert seen(peer).prompt == "a raccoon"


def test_what_is_not_stored_cannot_be_named_later(client: openai.OpenAI) -> None:
    response = ask(client, store=False)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, previous_response_id=response.id)
    assert caught.value.code == "previous_response_not_found"
    item = {"type": "image_generation_call", "id": call_of(response).id}
    with pytest.raises(openai.NotFoundError, match="not persisted when `store`"):
        ask(client, [item, *user({"type": "input_text", "text": "x"})])


def test_bytes_that_are_sent_again_are_edited_within_the_mask(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    clear = data_url((1024, 1024), "RGBA", (0, 0, 0, 0))
    image = {"type": "input_image", "image_url": data_url((1024, 1024)), "detail": "auto"}
    asked = user({"type": "input_text", "text": "a hat"}, image)
    ask(client, asked, tools=[{**TOOL, "input_image_mask": {"image_url": clear}}], store=False)
    assert (seen(peer).action, seen(peer).change) == ("edit", 1.0)


def test_the_chat_model_may_only_talk(client: openai.OpenAI) -> None:
    none: tuple[dict[str, Any], ...] = ({"tool_choice": "none"}, {"tools": []})
    for more in none:
        response = ask(client, **more)
        assert [item.type for item in response.output] == ["reasoning", "message"]
    quiet = ask(client, "Answer without generating a picture.")
    assert quiet.tool_usage.image_gen.total_tokens == 0
    forced = ask(client, "without generating", tool_choice={"type": "image_generation"})
    assert call_of(forced).result


def test_a_stream_has_the_recorded_order_of_events(client: openai.OpenAI) -> None:
    stream = ask(client, stream=True, tools=[{**TOOL, "partial_images": 2}])
    events = list(stream)
    kinds = [event.type for event in events]
    call = "response.image_generation_call."
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert [k.removeprefix(call) for k in kinds if k.startswith(call)] == [
        "in_progress",
        "generating",
        "partial_image",
        "partial_image",
        "completed",
    ]
    assert "".join(e.delta for e in events if e.type.endswith("text.delta")) == "Here it is."
    assert [event.sequence_number for event in events] == list(range(len(events)))
    done = [e.item for e in events if e.type == "response.output_item.done"]
    final = next(item for item in done if item.type == "image_generation_call")
    assert kinds[-1] == "response.completed"
    assert final.result == call_of(events[-1].response).result


def test_the_async_sdk_streams_alike(peer: OpenAIPeer) -> None:
    async def listen() -> list[str]:
        async with openai.AsyncOpenAI(api_key=peer.key, base_url=peer.base_url) as client:
            stream = await client.responses.create(
                model=CHAT, input="a fox", tools=[{"type": "image_generation"}], stream=True
            )
            return [event.type async for event in stream]

    assert asyncio.run(listen())[-1] == "response.completed"


REFUSED: list[tuple[dict[str, Any], tuple[int, str | None, str | None]]] = [
    ({"model": "o1"}, (404, "model_not_found", None)),
    ({"model": "no-such-model"}, (404, "model_not_found", None)),
    ({"input": ""}, (400, "missing_required_parameter", "input")),
    ({"input": [3]}, (400, "invalid_type", "input")),
    ({"extra_body": {"seed": 3}}, (400, "unknown_parameter", "seed")),
    ({"tools": [{**TOOL, "n": 2}]}, (400, "unknown_parameter", "tools[0].n")),
    ({"tools": [{**TOOL, "size": "3x3"}]}, (400, "invalid_value", "tools[0].size")),
    ({"tools": [{**TOOL, "action": "edit"}]}, (400, "invalid_value", "tools[0].action")),
    ({"tools": [{}]}, (400, "missing_required_parameter", "tools[0].type")),
    (
        {"tools": [{**TOOL, "input_image_mask": {"file_id": "x"}}]},
        (400, "invalid_value", "tools[0].input_image_mask"),
    ),
    ({"tool_choice": "always"}, (400, "invalid_value", "tool_choice")),
    (
        {"tools": [], "tool_choice": {"type": "image_generation"}},
        (400, "invalid_value", "tool_choice"),
    ),
    (
        {"input": user({"type": "image"})},
        (400, "invalid_value", "input[0].content[0].type"),
    ),
]


@pytest.mark.parametrize(("given", "expected"), REFUSED, ids=lambda v: str(v)[:60])
def test_what_the_service_refuses_is_refused_and_not_billed(
    peer: OpenAIPeer,
    client: openai.OpenAI,
    given: dict[str, Any],
    expected: tuple[int, str | None, str | None],
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, given.get("input", "a fox"), **{k: given[k] for k in given if k != "input"})
    error = caught.value
    assert (error.status_code, error.code, error.param) == expected
    assert peer.paid_posts == 0


def recorded(name: str) -> Any:
    """The first JSON answer of a cassette, or skip."""
    import yaml

    here = os.environ.get("DIPTYCH_SHARED") or Path(__file__).parents[2] / "shared"
    cassette = Path(here) / "recordings" / "openai" / name
    if not cassette.is_file():
        pytest.skip("the recordings are not beside this checkout (set DIPTYCH_SHARED)")
    exchange = yaml.safe_load(cassette.read_text())["interactions"][0]
    return exchange["response"]["body"]["string"]


@pytest.mark.real
def test_the_document_has_the_fields_of_the_recorded_ones(client: openai.OpenAI) -> None:
    ours = json.loads(
        client.responses.with_raw_response.create(
            model=CHAT, input="a fox", tools=[{"type": "image_generation"}]
        ).content
    )
    newest = json.loads(recorded("responses-moderation-block-policy-text.yaml"))
    assert set(ours) == set(newest)
    pictures = json.loads(recorded("responses-store-false-two-turn-condensed.yaml"))
    assert [set(item) for item in ours["output"][1:]] == [
        set(item) for item in pictures["output"][1:]
    ]
    assert set(ours["tools"][0]) == set(pictures["tools"][0])
    assert ours["tool_usage"].keys() == pictures["tool_usage"].keys()
    assert ours["tool_usage"]["image_gen"].keys() == pictures["tool_usage"]["image_gen"].keys()
    assert ours["usage"].keys() == pictures["usage"].keys()


@pytest.mark.real
def test_the_stream_has_the_events_and_fields_of_the_recorded_one(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    peer.text = ""
    with client.responses.with_streaming_response.create(
        model=CHAT,
        input="an echidna",
        stream=True,
        tools=[{"type": "image_generation", "partial_images": 1}],
    ) as response:
        ours = events_of(response.read().decode())
    real = events_of(recorded("responses-stream-one-partial.yaml"))
    assert [name for name, _ in ours] == [name for name, _ in real]
    for (name, one), (_, other) in zip(ours, real, strict=True):
        assert set(one) == set(other), name


def events_of(text: str | bytes) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(text, bytes):
        text = text.decode()
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.strip().split("\n", 1)
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found
