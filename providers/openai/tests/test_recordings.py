"""Recorded exchanges of the real service, replayed through the plug-in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych import Image, ImageClient, errors
from diptych.errors import InvalidInput, RetiredModel
from diptych.events import Completed
from diptych.request import Request
from diptych.result import Result

from .recordings import EXPRESSED, LEFT_OUT, Expected

vcr = pytest.importorskip("vcr")
yaml = pytest.importorskip("yaml")

HERE = Path(__file__).resolve()
SHARED = Path(os.environ.get("DIPTYCH_SHARED", HERE.parents[4] / "shared"))
FOLDER = SHARED / "recordings" / "openai"
TWO = "gpt-image-2"
PLACES = ("images/generations", "images/edits", "responses")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings: {FOLDER} is not there"),
]


def interactions(name: str) -> list[dict[str, Any]]:
    text = (FOLDER / f"{name}.yaml").read_text()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read: list[dict[str, Any]] = yaml.load(text, Loader=loader)["interactions"]
    return read


def cases() -> list[Any]:
    return [
        pytest.param(name, expected, id=f"{name}-{expected.at}")
        for name, several in EXPRESSED.items()
        for expected in several
    ]


def test_every_recording_is_expressed_or_left_out_with_a_reason() -> None:
    recorded = {path.stem for path in FOLDER.glob("*.yaml")}
    assert recorded == set(EXPRESSED) | set(LEFT_OUT)
    assert not set(EXPRESSED) & set(LEFT_OUT)


def test_every_exchange_with_an_image_endpoint_is_in_the_table() -> None:
    for name, several in EXPRESSED.items():
        places = {expected.at for expected in several}
        for place, each in enumerate(interactions(name)):
            image = each["request"]["uri"].endswith(PLACES)
            called_a_function = name == "responses-function-call-then-image" and place == 0
            assert (place in places) is (image and not called_a_function), (name, place)


@pytest.mark.parametrize(("name", "expected"), cases())
def test_replay(
    name: str, expected: Expected, picture: Callable[..., Image], tmp_path: Path
) -> None:
    recorded = interactions(name)[expected.at]
    cassette = tmp_path / "one.json"
    cassette.write_text(json.dumps({"version": 1, "interactions": [recorded]}, default=_text))
    pictures = [picture((64 + place, 48)) for place in range(expected.edit)]
    player = vcr.VCR(record_mode="none", match_on=["method", "scheme", "host", "port", "path"])
    with (
        ImageClient(f"openai/{expected.model}", api_key="sk-recorded") as client,
        player.use_cassette(str(cassette), serializer="json") as played,
    ):
        if expected.error is not None or expected.broken:
            kind = getattr(errors, expected.error or "MalformedResponse")
            with pytest.raises(kind) as caught:
                said(client, expected, pictures)
            assert type(caught.value) is kind
            if expected.error is not None:
                assert (caught.value.status, caught.value.code) == (expected.status, expected.code)
        else:
            _check(said(client, expected, pictures), expected, recorded)
        assert played.play_count == 1


def said(client: ImageClient, expected: Expected, pictures: list[Image]) -> Result:
    """What the client makes of the recorded answer."""
    options: dict[str, Any] = dict(expected.options)
    if pictures[1:]:
        options["references"] = pictures[1:]
    if expected.turn:
        chat = client.conversation(image=pictures[0] if pictures else None)
        if expected.previews is None:
            return chat.send("a fox", **options)
        *_, last = client.stream(chat.plan("a fox", previews=expected.previews, **options))
        assert isinstance(last, Completed)
        return last.result
    if pictures:
        return client.edit(pictures[0], "a fox", **options)
    return client.generate("a fox", **options)


def _check(result: Result, expected: Expected, recorded: dict[str, Any]) -> None:
    body = json.loads(_text(recorded["response"]["body"]["string"]))
    assert tuple((image.format, image.size) for image in result.images) == expected.images
    for image in result.images:
        image.verify()
    if expected.text is not None:
        assert result.text.startswith(expected.text.strip())
    told = body.get("tool_usage", {}).get("image_gen") if expected.turn else body.get("usage")
    if told is not None:
        assert result.usage.total_tokens == told["total_tokens"]
        assert result.usage.input_text_tokens == told["input_tokens_details"]["text_tokens"]
    if expected.turn:
        assert result.usage.chat.total_tokens == body["usage"]["total_tokens"]
        assert result.state["response_id"] == body["id"]
    elif expected.model == TWO and told is not None and not expected.edit:
        assert result.cost.amount is not None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def test_what_is_left_out_is_refused_before_anything_is_sent(bench: Callable[..., Any]) -> None:
    with pytest.raises(RetiredModel):
        bench().plan("dall-e-3")
    with pytest.raises(RetiredModel):
        bench().plan("dall-e-2")
    with pytest.raises(InvalidInput):
        Request.build("")
