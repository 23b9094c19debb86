"""Real exchanges with fal, replayed: their bodies as results of the queue, their requests as ours.

They were recorded on fal's synchronous host, whose answers the queue gives as results too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from diptych import Image, ImageClient
from diptych.testing.peers import FalPeer

pytestmark = pytest.mark.real
yaml = pytest.importorskip("yaml")

Make = Callable[..., ImageClient]


@dataclass(frozen=True)
class Replay:
    """How a recorded request is said with diptych.

    `edit` stands for the recorded input pictures. `differs` are the inputs that diptych sends
    otherwise, with the reason; everything else must be what was recorded.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    edit: bool = False
    differs: dict[str, str] = field(default_factory=dict)


ONE = "one picture is what every endpoint makes unasked"

REPLAYS = {
    "run-flux-3-text-to-image": Replay(
        "fal/blackforestlabs/flux-3/text-to-image", {"size": "1K", "aspect": "1:1"}
    ),
    "run-gpt-image-1-5-text-to-image": Replay(
        "fal/gpt-image-1.5",
        {"size": "1024x1024", "format": "png", "quality": "low"},
        differs={"num_images": ONE},
    ),
    "run-grok-imagine-edit": Replay(
        "fal/xai/grok-imagine-image/edit",
        {"size": "1K", "format": "jpeg"},
        edit=True,
        differs={"num_images": ONE},
    ),
    "run-hunyuan-image-v3-instruct-edit": Replay(
        "fal/hunyuan-image/v3/instruct/edit",
        extra={"enable_safety_checker": True},
        edit=True,
        differs={"num_images": ONE},
    ),
    "run-ideogram-v4-5-text-to-image": Replay(
        "fal/ideogram/v4.5", {"quality": "low"}, {"num_images": 1}
    ),
    "run-meta-muse-image-edit": Replay("fal/meta/muse-image/edit", edit=True),
    "run-nano-banana-2-edit": Replay(
        "fal/nano-banana-2/edit",
        edit=True,
        differs={"image_urls": "the recording holds a note in place of the picture"},
    ),
    "run-nano-banana-pro-text-to-image": Replay(
        "fal/nano-banana-pro",
        {"size": "1K", "aspect": "1:1", "format": "png"},
        {"safety_tolerance": "4"},
        differs={"num_images": ONE},
    ),
    "run-nano-banana-text-to-image": Replay(
        "fal/nano-banana",
        {"aspect": "1:1", "format": "png"},
        {"safety_tolerance": "4"},
        differs={"num_images": ONE},
    ),
    "run-qwen-image-3-edit": Replay(
        "fal/alibaba/qwen-image-3/edit",
        {"format": "png"},
        {"num_images": 1, "image_size": "square"},
        edit=True,
        differs={"image_urls": "the recording holds a note in place of the picture"},
    ),
    "run-qwen-image-text-to-image": Replay(
        "fal/qwen-image",
        {"size": "1024x1024", "format": "png", "steps": 30},
        differs={
            "num_images": ONE,
            "image_size": "sizes are sent in pixels, square_hd is 1024x1024",
        },
    ),
    "run-seedream-v5-lite-text-to-image": Replay(
        "fal/bytedance/seedream/v5/lite/text-to-image",
        extra={"num_images": 1, "enable_safety_checker": True},
    ),
    "run-wan-v2-7-pro-edit": Replay(
        "fal/wan/v2.7/pro/edit", extra={"num_images": 1, "enable_safety_checker": True}, edit=True
    ),
    "run-wan-v2-7-text-to-image": Replay(
        "fal/wan/v2.7/text-to-image", extra={"max_images": 1, "enable_safety_checker": True}
    ),
}

NOT_REPLAYED = {
    "platform-models-list": "fal's catalogue: diptych plans from its own table, without network",
    "platform-pricing": "list prices by network: diptych's estimates make no call",
    "platform-pricing-estimate": "as platform-pricing",
    "platform-usage": "account statistics, not a picture",
    "queue-submit-and-result-shape": "the shape of a speech model's job, with no picture in it",
    "storage-upload-initiate-and-put": "fal's older upload; diptych uses the token upload of fal-client",
}


def exchange(shared: Path, name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The request body, the answer's body and its headers."""
    text = (shared / "recordings" / "fal" / f"{name}.yaml").read_text()
    (recorded,) = yaml.safe_load(text)["interactions"]
    headers = {key: values[0] for key, values in recorded["response"]["headers"].items()}
    sent = json.loads(recorded["request"]["body"])
    return sent, json.loads(recorded["response"]["body"]["string"]), headers


def test_every_recording_is_replayed_or_has_a_reason(shared: Path) -> None:
    found = {path.stem for path in (shared / "recordings" / "fal").glob("*.yaml")}
    assert found == REPLAYS.keys() | NOT_REPLAYED.keys()


@pytest.mark.parametrize("name", REPLAYS)
def test_a_recorded_exchange(
    name: str, shared: Path, peer: FalPeer, client: Make, picture: Image
) -> None:
    sent, answer, headers = exchange(shared, name)
    replay = REPLAYS[name]
    diptych = client(replay.model)
    urls = sent.get("image_urls", [])
    inputs = [_recorded(url, peer, picture) for url in urls]
    options = {**replay.options, "extra": replay.extra}
    if replay.edit:
        plan = diptych.plan_edit(inputs[0], sent["prompt"], references=inputs[1:], **options)
    else:
        plan = diptych.plan(sent["prompt"], **options)
    (call,) = plan.calls
    peer.serve_output(call.operation, answer, units=headers["x-fal-billable-units"])
    result = plan.run()

    posted = peer.last("submit").json
    same = {key: value for key, value in sent.items() if key not in replay.differs}
    assert {key: posted.get(key) for key in same} == same
    assert posted.keys() - sent.keys() == set()
    assert len(result) == len(answer["images"])
    recorded = answer["images"][0]
    assert result.image.media_type == recorded["content_type"]
    if recorded.get("width"):
        assert result.image.size == (recorded["width"], recorded["height"])
    assert result.image.seed == answer.get("seed")
    assert result.usage is not None
    assert result.usage.units == float(headers["x-fal-billable-units"])
    assert result.text == (answer.get("description") or "")
    assert result.request_id in peer.jobs
    assert peer.paid_posts == 1


def _recorded(url: str, peer: FalPeer, picture: Image) -> Image:
    """The input picture of a recording, or one of ours where the recording holds none."""
    if url.startswith("data:image/jpeg;base64,/9j/"):
        return Image.of(url)
    if url.startswith("https://"):
        peer.web[url] = picture.bytes
        return Image.from_url(url)
    return picture
