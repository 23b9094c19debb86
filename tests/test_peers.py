"""The OpenAI peer, asked by the real SDK: what it answers, what it refuses, what it writes down."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import ImagesResponse
from PIL import Image

from diptych.testing.peers import OpenAIPeer, Seen, Stranger, untrusted_tls, unused_port

MODEL = "gpt-image-2"


@pytest.fixture
def peer() -> Iterator[OpenAIPeer]:
    with OpenAIPeer() as peer:
        yield peer


@pytest.fixture
def client(peer: OpenAIPeer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=peer.key, base_url=peer.base_url, max_retries=0) as client:
        yield client


def recordings() -> Path:
    """The folder of recorded exchanges, or skip."""
    here = os.environ.get("DIPTYCH_SHARED") or Path(__file__).parents[2] / "shared"
    folder = Path(here) / "recordings"
    if not folder.is_dir():
        pytest.skip("the recordings are not beside this checkout (set DIPTYCH_SHARED)")
    return folder


def recorded(name: str) -> Any:
    """The last JSON answer of a cassette."""
    import yaml

    cassette = yaml.safe_load((recordings() / name).read_text())
    return json.loads(cassette["interactions"][-1]["response"]["body"]["string"])


def png(size: tuple[int, int] = (1024, 1024), colour: str = "navy", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


def alpha_mask(size: tuple[int, int], clear: tuple[int, int, int, int]) -> bytes:
    """A mask for OpenAI: opaque but for the box `clear`, which is to be edited."""
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), clear)
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def opened(text: str | None) -> Image.Image:
    assert text is not None
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    picture.load()
    return picture


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def seen(peer: OpenAIPeer, *kinds: str) -> Seen:
    found = peer.last(*kinds).seen
    assert found is not None
    return found


def code_of(error: openai.APIStatusError) -> tuple[int, str | None, str | None]:
    return error.status_code, error.code, error.param


# Images API.


def test_a_generation_has_the_size_and_format_asked_for(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    answer = client.images.generate(
        model=MODEL, prompt="a fox", size="1280x720", output_format="webp", quality="low", n=2
    )
    assert answer.data is not None
    first, second = (opened(item.b64_json) for item in answer.data)
    assert (first.format, first.size) == ("WEBP", (1280, 720))
    assert first.tobytes() != second.tobytes()
    assert (answer.size, answer.quality, answer.output_format) == ("1280x720", "low", "webp")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert (peer.paid_posts, peer.count("generate"), peer.connections) == (1, 1, 1)
    assert peer.last().json["prompt"] == "a fox"
    assert peer.last().headers["authorization"] == f"Bearer {peer.key}"
    assert peer.key not in repr(peer.requests)


def test_the_same_prompt_gives_the_same_picture_and_another_one_another(
    client: openai.OpenAI,
) -> None:
    def paint(prompt: str) -> str | None:
        data = client.images.generate(model=MODEL, prompt=prompt, size="1024x1024").data
        assert data is not None
        return data[0].b64_json

    assert paint("a fox") == paint("a fox") != paint("a raccoon")


def test_the_async_sdk_is_served_alike(peer: OpenAIPeer) -> None:
    async def ask() -> list[ImagesResponse]:
        async with openai.AsyncOpenAI(api_key=peer.key, base_url=peer.base_url) as client:
            asked = [
                client.images.generate(model=MODEL, prompt=f"fox {k}", size="1024x1024")
                for k in range(5)
            ]
            return await asyncio.gather(*asked)

    pictures = [answer.data[0].b64_json for answer in asyncio.run(ask()) if answer.data]
    assert len(set(pictures)) == 5
    assert peer.paid_posts == 5


@pytest.mark.parametrize("form", ["gif", "svg", "jpeg", "png"])
def test_every_format_comes_as_announced(client: openai.OpenAI, form: Any) -> None:
    more: dict[str, dict[str, Any]] = {
        "gif": {"frame_count": 3},
        "svg": {"svg": {"model": "gpt-6-sol"}},
    }
    answer = client.images.generate(
        model="gpt-image-2.6-flare",
        prompt="a fox",
        output_format=form,
        safety_identifier="user-7",
        **more.get(form, {}),
    )
    assert answer.data is not None
    assert answer.data[0].b64_json is not None
    data = base64.b64decode(answer.data[0].b64_json)
    assert answer.safety_identifier == "user-7"
    if form == "svg":
        assert data.startswith(b"<svg ")
        assert answer.svg_usage is not None
        assert answer.svg_usage.model == "gpt-6-sol"
    else:
        picture = Image.open(io.BytesIO(data))
        assert picture.format == form.upper()
        assert getattr(picture, "n_frames", 1) == (3 if form == "gif" else 1)


def test_a_transparent_background_is_transparent(client: openai.OpenAI) -> None:
    answer = client.images.generate(model=MODEL, prompt="a fox", background="transparent")
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).getchannel("A").getextrema() == (0, 255)


def test_an_edit_reports_what_the_mask_means_and_changes_the_rest_a_little(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    size = (1024, 1024)
    answer = client.images.edit(
        model=MODEL,
        image=("in.png", png(size, "#204060")),
        mask=("mask.png", alpha_mask(size, (0, 0, 512, 512))),
        prompt="a raccoon",
    )
    assert seen(peer).change == pytest.approx(0.25)
    assert seen(peer).change_box == (0, 0, 512, 512)
    assert seen(peer).sources == (size,)
    assert answer.data is not None
    outside = opened(answer.data[0].b64_json).crop((512, 512, 1024, 1024))
    assert (0x20, 0x40, 0x60) not in {colour for _, colour in outside.getcolors() or ()}
    assert outside.getcolors() is not None
    assert peer.last().files[0].filename == "in.png"


def test_an_edit_of_several_images_keeps_the_shape_of_the_first(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    answer = client.images.edit(
        model="gpt-image-2.5-flare",
        image=[png((1600, 900)), png((640, 640)), png((900, 1600))],
        prompt="together",
        output_format="svg",
        extra_body={"svg": {"model": "gpt-6-sol"}},
    )
    assert answer.size == "1536x1024"
    assert seen(peer).sources == ((1600, 900), (640, 640), (900, 1600))
    assert [file.field for file in peer.last().files] == ["image[]"] * 3
    tall = client.images.edit(
        model=MODEL, image=png((900, 1600)), prompt="x", background="transparent"
    )
    assert tall.size == "1024x1536"


def test_the_json_form_of_an_edit(peer: OpenAIPeer, client: openai.OpenAI) -> None:
    name = peer.add_file(png((64, 64)))
    peer.web["https://example.com/fox.png"] = png((32, 48))
    body = {
        "model": MODEL,
        "prompt": "green",
        "images": [
            {"image_url": data_url(png((48, 48)))},
            {"file_id": name},
            {"image_url": "https://example.com/fox.png"},
        ],
        "mask": {"image_url": data_url(alpha_mask((48, 48), (0, 0, 48, 24)))},
        "moderation": "low",
    }
    answer = client.post("/images/edits", body=body, cast_to=ImagesResponse)
    assert answer.data is not None
    assert seen(peer).sources == ((48, 48), (64, 64), (32, 48))
    assert seen(peer).change == pytest.approx(0.5)


def test_a_stream_brings_partial_pictures_and_then_the_final_one(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    with client.images.generate(
        model=MODEL, prompt="a fox", size="1024x1024", stream=True, partial_images=2
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [e.partial_image_index for e in events if e.type.endswith("partial_image")] == [0, 1]  # type: ignore[union-attr] # the types tell them apart
    assert len({event.b64_json for event in events}) == 3
    plain = client.images.generate(model=MODEL, prompt="a fox", size="1024x1024")
    assert plain.data is not None
    assert events[-1].b64_json == plain.data[0].b64_json


def test_an_edit_streams_too(client: openai.OpenAI) -> None:
    with client.images.edit(model=MODEL, image=png(), prompt="x", stream=True, n=2) as stream:
        assert [event.type for event in stream] == ["image_edit.completed"] * 2


REFUSED: list[tuple[dict[str, Any], tuple[int, str | None, str | None]]] = [
    ({"model": "dall-e-3"}, (400, "invalid_value", "model")),
    ({"model": "gpt-image-1"}, (400, "invalid_value", "model")),
    ({"model": "no-such-model"}, (400, "invalid_value", "model")),
    ({"prompt": ""}, (400, "empty_string", "prompt")),
    ({"prompt": "x" * 32_001}, (400, "string_above_max_length", "prompt")),
    ({"response_format": "b64_json"}, (400, "unknown_parameter", "response_format")),
    ({"extra_body": {"seed": 3}}, (400, "unknown_parameter", "seed")),
    ({"size": "1000x1000"}, (400, "invalid_value", "size")),
    ({"size": "4096x1024"}, (400, "invalid_value", "size")),
    ({"size": "3856x2000"}, (400, "invalid_value", "size")),
    ({"size": "512x512"}, (400, "invalid_value", "size")),
    ({"size": "large"}, (400, "invalid_value", "size")),
    ({"size": "3856x1296"}, (400, "invalid_value", "size")),
    ({"size": "1280x720", "model": "gpt-image-1-mini"}, (400, "invalid_value", "size")),
    ({"n": 0}, (400, "integer_below_min_value", "n")),
    ({"n": 11}, (400, "integer_above_max_value", "n")),
    ({"extra_body": {"n": "2"}}, (400, "invalid_type", "n")),
    ({"extra_body": {"prompt": 3}}, (400, "invalid_type", "prompt")),
    ({"background": "pink"}, (400, "invalid_value", "background")),
    ({"background": "transparent", "output_format": "jpeg"}, (400, "invalid_value", "background")),
    ({"output_compression": 50}, (400, "invalid_value", "output_compression")),
    ({"quality": "max"}, (400, "invalid_value", "quality")),
    ({"output_format": "gif", "model": "gpt-image-1.5"}, (400, "invalid_value", "output_format")),
    ({"output_format": "gif", "stream": True}, (400, "invalid_value", "output_format")),
    ({"output_format": "svg", "n": 2}, (400, "invalid_value", "output_format")),
    ({"frame_count": 4}, (400, "invalid_value", "frame_count")),
    ({"partial_images": 2}, (400, "invalid_value", "partial_images")),
    ({"extra_body": {"svg": {"model": "x"}}}, (400, "invalid_value", "svg")),
]


@pytest.mark.parametrize(("given", "expected"), REFUSED, ids=lambda v: str(v)[:60])
def test_what_the_service_refuses_is_refused_and_not_billed(
    peer: OpenAIPeer,
    client: openai.OpenAI,
    given: dict[str, Any],
    expected: tuple[int, str | None, str | None],
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.generate(**{"model": MODEL, "prompt": "a fox", **given})
    assert code_of(caught.value) == expected
    assert peer.paid_posts == 0
    assert peer.last().status == expected[0]


def test_a_prompt_and_a_body_are_required(client: openai.OpenAI) -> None:
    for body in ({"model": MODEL}, [1]):
        with pytest.raises(openai.BadRequestError):
            client.post("/images/generations", body=body, cast_to=ImagesResponse)
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/images/edits", body={"model": MODEL, "prompt": "x"}, cast_to=ImagesResponse)
    assert code_of(caught.value) == (400, "missing_required_parameter", "images")


BAD_EDITS: list[tuple[dict[str, Any], str | None]] = [
    ({"mask": png()}, "invalid_mask_image"),  # no alpha channel
    ({"mask": alpha_mask((512, 512), (0, 0, 9, 9))}, "invalid_mask_image"),  # another size
    ({"image": b"not a picture"}, "invalid_image_file"),
    ({"image": [png((16, 16))] * 17}, "array_above_max_length"),
    ({"input_fidelity": "high"}, "invalid_value"),
    ({"extra_body": {"moderation": "low"}}, "unknown_parameter"),
    ({"markup": alpha_mask((1024, 1024), (0, 0, 9, 9))}, "invalid_value"),  # 2.5 and later
]  # fmt: skip


@pytest.mark.parametrize(("given", "code"), BAD_EDITS, ids=lambda v: str(v)[:40])
def test_edits_that_the_service_refuses(
    client: openai.OpenAI, given: dict[str, Any], code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(**{"model": MODEL, "prompt": "x", "image": png(), **given})
    assert caught.value.code == code


def test_a_mask_must_be_a_png_and_a_markup_must_have_alpha(client: openai.OpenAI) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (1024, 1024)).save(file, "WEBP")
    with pytest.raises(openai.BadRequestError, match="PNG"):
        client.images.edit(model=MODEL, prompt="x", image=png(), mask=file.getvalue())
    newer = "gpt-image-2.5-flare"
    with pytest.raises(openai.BadRequestError, match="alpha"):
        client.images.edit(model=newer, prompt="x", image=png(), markup=png())
    clear = alpha_mask((1024, 1024), (0, 0, 9, 9))
    assert client.images.edit(model=newer, prompt="x", image=png(), markup=clear).data


def test_inputs_that_are_too_large_or_not_there(peer: OpenAIPeer, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="50 MB"):
        client.images.edit(model=MODEL, prompt="x", image=bytes(50 * 1024 * 1024 + 1))
    noise = Image.effect_noise((2300, 2300), 200.0).convert("RGBA")
    file = io.BytesIO()
    noise.save(file, "PNG")
    with pytest.raises(openai.BadRequestError, match="4 MB"):
        client.images.edit(model=MODEL, prompt="x", image=png((2300, 2300)), mask=file.getvalue())
    headers = {"authorization": f"Bearer {peer.key}"}
    url = f"{peer.base_url}/images/edits"
    form = {"model": (None, MODEL), "prompt": (None, "x")}
    bare = httpx.post(url, headers=headers, files=form)
    assert bare.json()["error"]["param"] == "image"
    headers["content-type"] = "multipart/form-data"
    assert httpx.post(url, headers=headers, content=b"no boundary").status_code == 400


def test_references_that_cannot_be_resolved(client: openai.OpenAI) -> None:
    wrong: list[tuple[Any, str | None]] = [
        ({"image_url": "https://example.com/nothing.png"}, "invalid_value"),
        ({"image_url": "data:image/png;base64,%%%"}, "invalid_base64_image"),
        ({"image_url": "data:image/png"}, "invalid_base64_image"),
        ({"file_id": "file-unknown"}, "image_file_not_found"),
        (7, "invalid_type"),
    ]
    for reference, code in wrong:
        body = {"model": MODEL, "prompt": "x", "images": [reference]}
        with pytest.raises(openai.BadRequestError) as caught:
            client.post("/images/edits", body=body, cast_to=ImagesResponse)
        assert caught.value.code == code


def test_a_wrong_key_is_refused_as_recorded(peer: OpenAIPeer) -> None:
    with (
        openai.OpenAI(api_key="fake_key", base_url=peer.base_url) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.images.generate(model=MODEL, prompt="x")
    error = caught.value
    assert (error.code, error.response.headers["www-authenticate"]) == (
        "invalid_api_key",
        'Bearer realm="OpenAI API"',
    )
    assert peer.paid_posts == 0
    assert httpx.get(f"{peer.base_url}/models").status_code == 401


def test_models_carry_their_shutdown_date(client: openai.OpenAI) -> None:
    dates = {model.id: model.shutdown_date for model in client.models.list()}
    assert dates["gpt-image-1.5"] == "2026-12-01"
    assert dates["gpt-image-2"] is None
    assert "dall-e-3" not in dates
    assert client.models.retrieve("gpt-image-2").owned_by == "system"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-image-1")


def test_unknown_paths_and_azure_without_a_version(peer: OpenAIPeer, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.post("/images/variations", body={}, cast_to=ImagesResponse)
    url = f"{peer.origin}/openai/deployments/x/images/generations"
    assert httpx.post(url, headers={"api-key": peer.key}, json={}).status_code == 404


def test_azure_paths_and_keys(peer: OpenAIPeer) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=peer.azure_endpoint, api_key=peer.key, api_version="2026-06-01"
    ) as client:
        assert client.images.generate(model="my-deployment", prompt="a fox").data
        assert peer.last().path == "/openai/deployments/my-deployment/images/generations"
        assert peer.last().query == {"api-version": "2026-06-01"}
        response = client.responses.create(model="my-chat", input="hi")
        assert response.output_text == peer.text
    headers = {"api-key": peer.key}
    body = {"model": "gpt-image-2", "prompt": "x"}
    url = f"{peer.origin}/openai/v1/images/generations"
    assert httpx.post(url, headers=headers, json=body).json()["size"] == "1024x1024"


def test_a_compatible_server_takes_anything_and_says_little() -> None:
    with (
        OpenAIPeer(dialect="compatible") as peer,
        openai.OpenAI(api_key=peer.key, base_url=peer.base_url) as client,
    ):
        answer = client.images.generate(
            model="local-sd", prompt="x", size="512x512", extra_body={"seed": 3}
        )
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).size == (512, 512)
    assert (answer.usage, answer.size) == (None, None)


def test_a_fixed_picture_is_sent_as_it_is() -> None:
    data = png((16, 16))
    with (
        OpenAIPeer(image=data, delay=0.01) as peer,
        openai.OpenAI(api_key=peer.key, base_url=peer.base_url) as client,
    ):
        answer = client.images.generate(model=MODEL, prompt="x", n=2)
        assert answer.data is not None
        assert [base64.b64decode(item.b64_json or "") for item in answer.data] == [data] * 2
        assert answer.usage is not None


# Recorded answers.


@pytest.mark.real
def test_an_answer_has_the_fields_of_the_recorded_one(
    peer: OpenAIPeer, client: openai.OpenAI
) -> None:
    real = recorded("openai/images-generate-gpt-image-2-jpeg.yaml")
    raw = client.images.with_raw_response.generate(
        model=MODEL,
        prompt="A cat with a cowboy hat, dancing in Rome.",
        size="1280x720",
        output_format="jpeg",
        output_compression=10,
        quality="low",
    )
    ours = json.loads(raw.content)
    assert shape(ours) == shape(real)


def shape(data: Any) -> Any:
    """The nested key sets of a document, values left out."""
    if isinstance(data, dict):
        return {key: shape(value) for key, value in data.items()}
    return [shape(data[0])] if isinstance(data, list) and data else None


@pytest.mark.real
@pytest.mark.parametrize(
    ("cassette", "given"),
    [
        ("error-400-dall-e-3-retired", {"model": "dall-e-3"}),
        ("error-400-empty-prompt", {"prompt": ""}),
        ("error-400-invalid-background", {"background": "rig-invalid"}),
        ("error-400-response-format-rejected", {"response_format": "b64_json"}),
        (
            "error-400-size-not-multiple-of-16",
            {"size": "3x3", "model": "gpt-image-2-2026-04-21"},
        ),
        ("error-400-size-not-supported", {"size": "3x3", "model": "gpt-image-1-mini"}),
    ],
)
def test_errors_are_the_recorded_ones(
    client: openai.OpenAI, cassette: str, given: dict[str, Any]
) -> None:
    real = recorded(f"openai/{cassette}.yaml")
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**{"model": MODEL, "prompt": "x", **given})
    assert caught.value.response.json() == real


# Lifecycle and addresses.


def test_a_closed_peer_leaves_no_thread_and_no_socket() -> None:
    before = set(threading.enumerate())
    with OpenAIPeer() as peer:
        address = ("127.0.0.1", int(peer.origin.rpartition(":")[2]))
        hanging = socket.create_connection(address)  # a connection that nobody closes
        assert isinstance(peer.stranger, Stranger)
    assert set(threading.enumerate()) == before
    with hanging:
        assert hanging.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_tls_with_its_authority_works_and_without_it_fails() -> None:
    with OpenAIPeer(tls=True) as peer:
        assert peer.ca_file is not None
        trusted = ssl.create_default_context(cafile=str(peer.ca_file))
        url = f"{peer.base_url}/models"
        headers = {"authorization": f"Bearer {peer.key}"}
        with httpx.Client(verify=trusted) as client:
            assert client.get(url, headers=headers).status_code == 200
    assert not peer.ca_file.exists()
    with untrusted_tls() as origin, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"):
        httpx.get(origin)


def test_a_peer_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no socket left")

    with monkeypatch.context() as context:
        context.setattr(asyncio, "start_server", full)
        with pytest.raises(RuntimeError, match="could not start"):
            OpenAIPeer().start()
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ImportError, match="pip install trustme"):
        OpenAIPeer(tls=True).start()


def test_an_unused_port_refuses() -> None:
    with unused_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_waiting_ends_when_it_came_and_when_it_does_not(peer: OpenAIPeer) -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        peer.wait_for("generate", timeout=0.01)
    with pytest.raises(LookupError):
        peer.last("generate")
    address = peer.origin.removeprefix("http://")
    connection = http.client.HTTPConnection(address)
    connection.request("GET", "/v1/models")
    connection.getresponse().read()
    peer.wait_for("models")
    with pytest.raises(TimeoutError, match="1 connections"):
        peer.wait_until_idle(timeout=0.01)
    connection.close()
    peer.wait_until_idle()


def test_a_peer_that_is_not_running_says_so() -> None:
    with pytest.raises(RuntimeError, match="with block"):
        _ = OpenAIPeer().stranger
    OpenAIPeer().close()


def test_bodies_in_chunks_and_closing_clients_are_understood(peer: OpenAIPeer) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model": "gpt-image-2", '
        yield b'"prompt": "a fox"}'

    headers = {
        "authorization": f"Bearer {peer.key}",
        "content-type": "application/json",
        "connection": "close",
        "expect": "100-continue",
    }
    answer = httpx.post(f"{peer.base_url}/images/generations", headers=headers, content=pieces())
    assert answer.status_code == 200
    assert answer.headers["openai-version"] == "2020-10-01"
    broken = httpx.post(f"{peer.base_url}/images/generations", headers=headers, content=b"{")
    assert broken.status_code == 400


def test_something_that_is_not_http_is_hung_up_on(peer: OpenAIPeer) -> None:
    address = ("127.0.0.1", int(peer.origin.rpartition(":")[2]))
    with socket.create_connection(address) as sender:
        sender.sendall(b"hello\r\n\r\n")
        assert sender.recv(1) == b""
    huge = b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n"
    with socket.create_connection(address) as sender:
        sender.sendall(huge)
        assert sender.recv(1) == b""
