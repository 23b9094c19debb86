"""The fal peer, asked by the real client: queue, synchronous host, storage, prices, webhooks."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fal_client
import fal_client.client
import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from PIL import Image

from diptych.testing.peers import FalPeer, Seen

FLUX = "fal-ai/flux/dev"


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[FalPeer]:
    with FalPeer() as peer:
        monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", peer.queue_url)
        monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", peer.run_url)
        monkeypatch.setattr(fal_client.client, "REST_URL", peer.origin)
        monkeypatch.setattr(fal_client.client, "CDN_URL", peer.origin)
        yield peer


@pytest.fixture
def client(peer: FalPeer) -> Iterator[fal_client.SyncClient]:
    client = fal_client.SyncClient(key=peer.key)
    yield client
    client._client.close()


@pytest.fixture
def headers(peer: FalPeer) -> dict[str, str]:
    return {"authorization": f"Key {peer.key}"}


def picture(size: tuple[int, int] = (64, 48), colour: Any = "navy", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def half_white(size: tuple[int, int] = (64, 48)) -> str:
    """A mask whose left half is white."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    mask.save(file, "PNG")
    return data_url(file.getvalue())


def seen(peer: FalPeer) -> Seen:
    found = peer.last("submit", "run").seen
    assert found is not None
    return found


def test_a_subscription_goes_through_the_queue(
    peer: FalPeer, client: fal_client.SyncClient
) -> None:
    states: list[fal_client.Status] = []
    result = client.subscribe(
        "fal-ai/flux-pro/v1.1",
        {"prompt": "a fox", "image_size": "square", "num_images": 2},
        with_logs=True,
        on_queue_update=states.append,
    )
    assert [type(state).__name__ for state in states] == ["Queued", "InProgress", "Completed"]
    assert isinstance(states[1], fal_client.InProgress)
    assert states[1].logs
    assert set(result) == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert (result["prompt"], result["has_nsfw_concepts"]) == ("a fox", [False, False])
    first = httpx.get(result["images"][0]["url"])
    assert first.headers["content-type"] == result["images"][0]["content_type"] == "image/jpeg"
    assert Image.open(io.BytesIO(first.content)).size == (512, 512)
    assert (peer.paid_posts, peer.count("submit"), peer.count("result")) == (1, 1, 1)


def test_the_submit_answer_names_urls_without_the_sub_path(
    peer: FalPeer, headers: dict[str, str]
) -> None:
    answer = httpx.post(
        f"{peer.origin}/fal-ai/flux-pro/v1.1", json={"prompt": "x"}, headers=headers
    )
    body = answer.json()
    base = f"{peer.origin}/fal-ai/flux-pro/requests/{body['request_id']}"
    assert (answer.status_code, body["status"], body["queue_position"]) == (200, "IN_QUEUE", 0)
    assert (body["response_url"], body["status_url"], body["cancel_url"]) == (
        base,
        f"{base}/status",
        f"{base}/cancel",
    )
    states = [httpx.get(body["status_url"], headers=headers) for _ in range(3)]
    assert [state.status_code for state in states] == [202, 202, 200]
    result = httpx.get(base, headers=headers)
    assert result.headers["x-fal-request-id"] == body["request_id"]
    assert result.headers["x-fal-billable-units"] == "1"
    assert result.headers["server"] == "envoy"


def test_the_async_client_is_served_alike(peer: FalPeer) -> None:
    async def ask() -> list[Any]:
        client = fal_client.AsyncClient(key=peer.key)
        try:
            asked = (client.subscribe(FLUX, {"prompt": f"fox {k}", "seed": k}) for k in range(4))
            return await asyncio.gather(*asked)
        finally:
            await (await client._client).aclose()

    results = asyncio.run(ask())
    assert [result["seed"] for result in results] == [0, 1, 2, 3]
    assert len({result["images"][0]["url"] for result in results}) == 4


def test_the_synchronous_host(peer: FalPeer, client: fal_client.SyncClient) -> None:
    result = client.run(FLUX, {"prompt": "a fox", "sync_mode": True, "output_format": "png"})
    head, _, text = result["images"][0]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(text))).format == "PNG"
    events = list(client.stream(FLUX, {"prompt": "a fox"}))
    assert events[-1]["images"]
    assert peer.paid_posts == 2


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        ("fal-ai/nano-banana-2", {"images", "description"}),
        ("openai/gpt-image-2", {"images"}),
        ("fal-ai/flux-2-pro", {"images", "seed"}),
        ("fal-ai/recraft/v3/text-to-image", {"images"}),
        ("xai/grok-imagine-image", {"images", "revised_prompt"}),
        ("fal-ai/aunt-agatha", {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}),
    ],
)
def test_families_answer_with_their_own_fields(
    client: fal_client.SyncClient, endpoint: str, fields: set[str]
) -> None:
    assert set(client.run(endpoint, {"prompt": "a fox"})) == fields


def test_some_endpoints_answer_with_one_image(client: fal_client.SyncClient) -> None:
    result = client.run("fal-ai/esrgan", {"image_url": data_url(picture())})
    assert (result["image"]["width"], result["image"]["height"]) == (64, 48)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"image_size": "landscape_16_9"}, (1024, 576)),
        ({"image_size": {"width": 320, "height": 192}}, (320, 192)),
        ({"image_size": "1536x1024"}, (1536, 1024)),
        ({"aspect_ratio": "1:1", "resolution": "0.5K"}, (512, 512)),
        ({"aspect_ratio": "21:9"}, (1568, 672)),
        ({"aspect_ratio": "auto"}, (1024, 768)),
        ({"image_size": "auto", "image_url": data_url(picture((80, 40)))}, (80, 40)),
    ],
)
def test_sizes(client: fal_client.SyncClient, given: dict[str, Any], size: tuple[int, int]) -> None:
    image = client.run(FLUX, {"prompt": "x", **given})["images"][0]
    assert (image["width"], image["height"]) == size
    assert Image.open(io.BytesIO(httpx.get(image["url"]).content)).size == size


def test_a_fixed_picture_is_served_as_it_is(peer: FalPeer, client: fal_client.SyncClient) -> None:
    peer.image = picture()
    image = client.run(FLUX, {"prompt": "x"})["images"][0]
    assert httpx.get(image["url"]).content == picture()


def test_a_mask_is_read_with_the_polarity_of_its_family(
    peer: FalPeer, client: fal_client.SyncClient
) -> None:
    mask = half_white()
    given = {"prompt": "x", "image_url": data_url(picture()), "mask_url": mask}
    image = client.run("fal-ai/flux-pro/v1/fill", given)["images"][0]
    assert seen(peer).change == seen(peer).white == 0.5
    assert seen(peer).change_box == (0, 0, 32, 48)
    outside = Image.open(io.BytesIO(httpx.get(image["url"]).content)).crop((40, 0, 64, 48))
    assert outside.getextrema() != ((0, 0), (0, 0), (128, 128))
    client.run("fal-ai/ideogram/v3/edit", given)
    assert seen(peer).change is None
    assert seen(peer).white == 0.5


INVALID: list[tuple[str, dict[str, Any], list[str | int], str]] = [
    (FLUX, {}, ["body", "prompt"], "missing"),
    (FLUX, {"prompt": 3}, ["body", "prompt"], "string_type"),
    (FLUX, {"prompt": "x", "num_images": "2"}, ["body", "num_images"], "int_type"),
    (FLUX, {"prompt": "x", "num_images": 0}, ["body", "num_images"], "greater_than_equal"),
    (FLUX, {"prompt": "x", "guidance_scale": "3"}, ["body", "guidance_scale"], "float_type"),
    (FLUX, {"prompt": "x", "strength": 1.5}, ["body", "strength"], "less_than_equal"),
    (FLUX, {"prompt": "x", "image_size": "huge"}, ["body", "image_size"], "enum"),
    (
        FLUX,
        {"prompt": "x", "image_size": {"width": 0, "height": 9}},
        ["body", "image_size", "width"],
        "less_than_equal",
    ),
    ("fal-ai/flux-pro/kontext", {"prompt": "x"}, ["body", "image_url"], "missing"),
    ("fal-ai/nano-banana-2/edit", {"prompt": "x"}, ["body", "image_urls"], "missing"),
    (
        "fal-ai/flux-2/edit",
        {"prompt": "x", "image_urls": ["https://example.com/x.png"]},
        ["body", "image_urls", 0],
        "file_download_error",
    ),
    (
        "fal-ai/flux/dev/image-to-image",
        {"prompt": "x", "image_url": "data:image/png;base64,%%%"},
        ["body", "image_url"],
        "file_download_error",
    ),
    (
        "fal-ai/flux/dev/image-to-image",
        {"prompt": "x", "image_url": data_url(b"no picture")},
        ["body", "image_url"],
        "image_load_error",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "given", "loc", "kind"), INVALID)
def test_invalid_input_completes_and_then_fails(
    peer: FalPeer,
    client: fal_client.SyncClient,
    endpoint: str,
    given: dict[str, Any],
    loc: list[str | int],
    kind: str,
) -> None:
    states: list[fal_client.Status] = []
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.subscribe(endpoint, given, on_queue_update=states.append)
    assert isinstance(states[-1], fal_client.Completed)
    assert caught.value.status_code == 422
    detail = caught.value.response.json()["detail"][0]
    assert (detail["loc"], detail["type"]) == (loc, kind)
    answer = httpx.post(
        peer.run_url + endpoint + "/stream",
        json=given,
        headers={"authorization": f"Key {peer.key}"},
    )
    assert answer.status_code == 422


def test_a_body_that_is_no_object_is_refused(peer: FalPeer, headers: dict[str, str]) -> None:
    assert httpx.post(peer.run_url + FLUX, json=[1], headers=headers).status_code == 422


def test_cancelling(peer: FalPeer, client: fal_client.SyncClient) -> None:
    handle = client.submit(FLUX, {"prompt": "x"})
    handle.cancel()
    state = handle.status()
    assert isinstance(state, fal_client.Completed)
    assert state.error_type == "client_cancelled"
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 499
    done = client.submit(FLUX, {"prompt": "x"})
    done.get(interval=0.01)
    with pytest.raises(fal_client.FalClientHTTPError) as late:
        done.cancel()
    assert late.value.response.json() == {"status": "ALREADY_COMPLETED"}
    assert peer.count("cancel") == 2


def test_a_job_takes_its_time_and_can_be_asked_for_elsewhere(peer: FalPeer) -> None:
    peer.polls, peer.delay = 0, 1.0  # far longer than the question below takes
    handle = fal_client.SyncClient(key=peer.key).submit("workflows/me/flow", {"prompt": "x"})
    other = fal_client.SyncClient(key=peer.key)
    again = other.get_handle("workflows/me/flow", handle.request_id)
    early = httpx.get(again.response_url, headers={"authorization": f"Key {peer.key}"})
    assert early.status_code == 400
    assert again.get(interval=0.01)["images"]
    other._client.close()
    handle.client.close()


def test_unknown_jobs_paths_and_files(peer: FalPeer, headers: dict[str, str]) -> None:
    for path in ("/fal-ai/flux/requests/none/status", "/elsewhere", "/files/none.png"):
        assert httpx.get(peer.origin + path, headers=headers).status_code == 404
    assert httpx.get(f"{peer.origin}/files/black/none.png").status_code == 404
    gone = f"{peer.origin}/files/x/multipart/none/1"
    assert httpx.put(gone, headers=headers).status_code == 404


def test_keys(peer: FalPeer) -> None:
    for given, detail in (({}, "Authentication"), ({"authorization": "Key wrong"}, "not valid")):
        answer = httpx.post(f"{peer.origin}/{FLUX}", json={"prompt": "x"}, headers=given)
        assert answer.status_code == 401
        assert detail in answer.json()["detail"]
    assert peer.paid_posts == 0


# fal_client leaves the httpx client of a sync upload open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_uploads_can_be_used_as_inputs(peer: FalPeer, client: fal_client.SyncClient) -> None:
    url = client.upload(picture((96, 64)), "image/png", "in.png")
    result = client.run("fal-ai/flux/dev/image-to-image", {"prompt": "x", "image_url": url})
    assert result["images"][0]["width"] == 96
    assert httpx.get(url).headers["content-type"] == "image/png"
    assert (peer.count("token"), peer.count("upload")) == (1, 1)
    other = client.upload(picture(), "image/png", "in.png", repository="fal")
    assert httpx.get(other).content == picture()
    peer.web["https://example.com/in.png"] = picture((32, 32))
    given = {"prompt": "x", "image_url": "https://example.com/in.png"}
    assert client.run("fal-ai/flux/dev/image-to-image", given)["images"][0]["width"] == 32
    gc.collect()


def test_an_upload_in_parts(peer: FalPeer, client: fal_client.SyncClient) -> None:
    from fal_client.client import MultipartUpload

    data = picture((256, 256))
    url = MultipartUpload.save(
        client=client._client,
        token_manager=client._token_manager,
        file_name="big.png",
        data=data,
        content_type="image/png",
        chunk_size=100,
    )
    assert httpx.get(url).content == data


def test_prices(peer: FalPeer, headers: dict[str, str]) -> None:
    peer.prices["fal-ai/flux/schnell"] = (0.003, "megapixels")
    url = f"{peer.origin}/v1/models/pricing"
    answer = httpx.get(url, params={"endpoint_id": f"{FLUX},fal-ai/flux/schnell"}, headers=headers)
    assert [price["unit_price"] for price in answer.json()["prices"]] == [0.025, 0.003]
    body = {"estimate_type": "unit_price", "endpoints": {FLUX: {"unit_quantity": 100}}}
    total = httpx.post(f"{url}/estimate", json=body, headers=headers).json()["total_cost"]
    assert total == pytest.approx(2.5)


def test_a_webhook_signature_verifies_with_the_published_key(peer: FalPeer) -> None:
    key = httpx.get(f"{peer.origin}/.well-known/jwks.json").json()["keys"][0]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "=="))
    body = b'{"status": "OK"}'
    now = int(time.time())
    signed = peer.sign_webhook(body, request_id="r-1", timestamp=now)
    message = f"r-1\npeer-user\n{now}\n{hashlib.sha256(body).hexdigest()}".encode()
    signature = bytes.fromhex(signed["X-Fal-Webhook-Signature"])
    public.verify(signature, message)
    with pytest.raises(InvalidSignature):
        public.verify(signature, message + b"x")


# Recorded answers.


def test_a_given_output_is_served_with_its_files_here(
    peer: FalPeer, client: fal_client.SyncClient
) -> None:
    first = "https://v3b.fal.media/files/b/1/a.jpg"
    body = {
        "images": [
            {"url": first, "content_type": "image/jpeg", "width": 80, "height": 40},
            {"url": "https://v3.fal.media/files/x/b.webp"},
        ],
        "source": {"url": "https://example.com/kept.png"},
    }
    peer.serve_output("me/model", body, units="4.3", files={first: picture()})
    result = client.subscribe("me/model", {})
    given, drawn = (httpx.get(image["url"]) for image in result["images"])
    assert given.content == picture()
    assert Image.open(io.BytesIO(drawn.content)).format == "WEBP"
    assert result["source"] == body["source"]
    peer.serve_output("me/model", {"detail": "no"}, status=500)
    with pytest.raises(fal_client.FalClientHTTPError):
        client.subscribe("me/model", {})


def cassettes() -> list[Path]:
    here = os.environ.get("DIPTYCH_SHARED") or Path(__file__).parents[2] / "shared"
    return sorted((Path(here) / "recordings" / "fal").glob("run-*.yaml"))


@pytest.mark.real
def test_recorded_outputs_are_replayed_through_the_queue(
    peer: FalPeer, client: fal_client.SyncClient
) -> None:
    import yaml

    if not cassettes():
        pytest.skip("the recordings are not beside this checkout (set DIPTYCH_SHARED)")
    for cassette in cassettes():
        exchange = yaml.safe_load(cassette.read_text())["interactions"][0]
        endpoint = exchange["request"]["uri"].removeprefix("https://fal.run/")
        real = json.loads(exchange["response"]["body"]["string"])
        peer.serve_output(endpoint, real)
        ours = client.subscribe(endpoint, {"prompt": "x"})
        for one, other in zip(ours["images"], real["images"], strict=True):
            assert {k: v for k, v in one.items() if k != "url"} == {
                k: v for k, v in other.items() if k != "url"
            }
            assert httpx.get(one["url"]).headers["content-type"] == other["content_type"]
        honest = {"prompt": "x", "image_urls": [data_url(picture())]}
        missing = set(real) - set(client.run("x/" + endpoint, honest))
        assert missing <= {"generated_text", "seed"}, cassette.name
