"""Real recorded exchanges of the live services, replayed through `ImageClient`.

They lie outside the repository: set DIPTYCH_SHARED to the folder that holds `recordings/`, or put it beside
the checkout as `shared`. OpenAI's are replayed as they were recorded; fal's were recorded on its synchronous
host, so the loopback peer serves their real bodies as results of its queue.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import vcr
import yaml

from diptych import Image, ImageClient
from diptych.errors import (
    AuthenticationFailed,
    MalformedResponse,
    ProviderError,
)
from diptych.testing.peers import FalPeer

SHARED = Path(os.environ.get("DIPTYCH_SHARED") or Path(__file__).parents[2] / "shared")
RECORDINGS = SHARED / "recordings"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not RECORDINGS.is_dir(), reason="the recordings are not there; see DIPTYCH_SHARED"
    ),
]

NOT_A_PICTURE = MalformedResponse
"""What becomes of a recording in which a note, a stub or a cut stands where the picture was."""

OPENAI: dict[str, Any] = {
    # What is asked is asked of a living model: the answers of retired ones have the same form.
    "error-400-edit-url-download-404": ("edit", ProviderError),
    "error-400-empty-prompt": ("generate", ProviderError),
    "error-400-invalid-background": ("generate", ProviderError),
    "error-400-model-does-not-exist": ("generate", ProviderError),
    "error-400-model-name-with-space-does-not-exist": ("generate", ProviderError),
    "error-400-response-format-rejected": ("generate", ProviderError),
    "error-400-response-format-unknown-parameter-body": ("generate", ProviderError),
    "error-400-size-not-multiple-of-16": ("generate", ProviderError),
    "error-400-size-not-supported": ("generate", ProviderError),
    "error-400-dall-e-3-retired": ("generate", ProviderError),
    "error-400-temperature-below-minimum": ("converse", ProviderError),
    "error-401-invalid-api-key-generations": ("generate", AuthenticationFailed),
    "images-edit-body-no-usage": ("edit", NOT_A_PICTURE),
    "images-edit-multipart-gpt-image-1-5-jpeg": ("edit", "jpeg"),
    "images-edit-multipart-transparent-png-then-describe": ("edit", "png"),
    "images-edit-multipart-two-images-gpt-image-1": ("edit", "png"),
    "images-generate-body-two-items": ("generate", NOT_A_PICTURE),
    "images-generate-dall-e-2-url-2023-historic": (
        None,
        "a URL answer of DALL-E 2 that has expired",
    ),
    "images-generate-gpt-image-1-mini-jpeg-low": ("generate", NOT_A_PICTURE),
    "images-generate-gpt-image-1-mini-png": ("generate", "png"),
    "images-generate-gpt-image-1-n2": ("generate", "png"),
    "images-generate-gpt-image-1-png": ("generate", "png"),
    "images-generate-gpt-image-1-then-describe": ("generate", "png"),
    "images-generate-gpt-image-2-jpeg": ("generate", "jpeg"),
    "images-generate-gpt-image-2-webp": ("generate", "webp"),
    "images-generate-listed-model": ("generate", NOT_A_PICTURE),
    "images-generate-second-client-same-body": ("generate", NOT_A_PICTURE),
    "responses-action-generate-transparent": ("converse", NOT_A_PICTURE),
    "responses-body-image-generation-call": ("converse", NOT_A_PICTURE),
    "responses-function-call-then-image": (
        None,
        "the chat model calls a function of the application first",
    ),
    "responses-generate-jpeg": ("converse", "jpeg"),
    "responses-generate-with-json-schema-output": ("converse", "png"),
    "responses-generate-with-json-schema-output-action-echoed": ("converse", NOT_A_PICTURE),
    "responses-image-and-text": ("converse", NOT_A_PICTURE),
    "responses-input-image-mask-url": ("converse", "png"),
    "responses-moderation-block-policy-text": (None, "no picture was asked for"),
    "responses-moderation-scores-text": (None, "no picture was asked for"),
    "responses-previous-response-id-text": (None, "no picture was asked for"),
    "responses-store-false-two-turn-condensed": ("converse", NOT_A_PICTURE),
    "responses-stream-one-partial": ("stream", NOT_A_PICTURE),
    "responses-tool-choice-required-gpt-5-4": ("converse", NOT_A_PICTURE),
    "responses-tool-offered-but-no-image": ("converse", None),
    "responses-two-turn-generate-then-edit": ("converse", NOT_A_PICTURE),
    "responses-two-turn-generate-then-edit-whole-images": ("two turns", "png"),
}


def picture() -> Image:
    import PIL.Image

    return Image.of(PIL.Image.new("RGB", (64, 64), "red"))


def act(client: ImageClient, how: str) -> Any:
    match how:
        case "generate":
            return client.generate("a fox")
        case "edit":
            return client.edit(picture(), "a fox")
        case "stream":
            chat = client.conversation()
            return chat.send("Generate a fox.")
        case "two turns":
            chat = client.conversation()
            chat.send("Generate a fox.")
            return chat.send("Now make it a raccoon.")
        case _:
            return client.conversation().send("Generate a fox.")


@pytest.mark.parametrize("name", OPENAI)
def test_openai(name):
    how, expected = OPENAI[name]
    if how is None:
        pytest.skip(f"not expressible: {expected}")
    tape = vcr.use_cassette(
        str(RECORDINGS / "openai" / f"{name}.yaml"),
        record_mode="none",
        match_on=("method", "scheme", "host", "path"),
    )
    with tape, ImageClient("openai/gpt-image-2", api_key="sk-replayed", max_retries=0) as client:
        if isinstance(expected, type):
            with pytest.raises(expected) as raised:
                act(client, how)
            assert "sk-replayed" not in str(raised.value)
            return
        result = act(client, how)
    if expected is None:
        assert result.text
        assert not result.images
        with pytest.raises(MalformedResponse, match="without a picture"):
            _ = result.image
        return
    assert [image.format for image in result.images] == [expected] * len(result.images)
    assert result.image.verify().width > 0


def test_every_recording_of_openai_is_accounted_for():
    assert {file.stem for file in (RECORDINGS / "openai").glob("*.yaml")} == set(OPENAI)


FAL_OTHER = {
    "platform-models-list": "a list of models, which is no part of making pictures",
    "platform-pricing": "account prices, which are not asked for",
    "platform-pricing-estimate": "account prices, which are not asked for",
    "platform-usage": "account usage, which is not asked for",
    "queue-submit-and-result-shape": "a shape by hand and not a recording",
    "storage-upload-initiate-and-put": "the older upload, which the plug-in does not use",
}


RENAMED = {"fal-ai/bytedance/": "bytedance/"}
"""fal moved vendors out of its own namespace; an old name is retired and names the new one."""


def fal_runs() -> list[str]:
    return sorted(file.stem for file in (RECORDINGS / "fal").glob("run-*.yaml"))


@pytest.mark.parametrize("name", fal_runs())
def test_fal(name):
    tape = yaml.load((RECORDINGS / "fal" / f"{name}.yaml").read_text(), Loader=yaml.CSafeLoader)
    (exchange,) = tape["interactions"]
    endpoint = exchange["request"]["uri"].split("/", 3)[3]
    for old, new in RENAMED.items():
        endpoint = endpoint.replace(old, new) if "/v5/" in endpoint else endpoint
    body = json.loads(exchange["response"]["body"]["string"])
    asked = json.loads(exchange["request"]["body"])
    with FalPeer() as peer:
        peer.serve_output(endpoint, body)
        with ImageClient(f"fal/{endpoint}", api_key=peer.key, base_url=peer.origin) as client:
            if any(
                field.startswith("image") and field.endswith(("url", "urls")) for field in asked
            ):
                result = client.edit(picture(), "a fox")
            else:
                result = client.generate("a fox")
        assert peer.paid_posts == 1
    assert len(result.images) == len(body.get("images") or [body.get("image")])
    assert result.text == (body.get("description") or "")


def test_every_recording_of_fal_is_accounted_for():
    found = {file.stem for file in (RECORDINGS / "fal").glob("*.yaml")}
    assert found == set(fal_runs()) | set(FAL_OTHER)
