"""Pictures on their way in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from diptych import AsyncImageClient, Image, ImageClient
from diptych.errors import MalformedResponse, PermissionDenied
from diptych.testing.peers import FalPeer, missing, status

Make = Callable[..., ImageClient]


def test_a_small_picture_travels_in_the_request(
    peer: FalPeer, client: Make, picture: Image
) -> None:
    client("fal/flux-pro/kontext").edit(picture, "make it blue")
    assert peer.last("submit").json["image_url"] == picture.data_url()
    assert peer.count("upload", "token") == 0


def test_a_large_picture_is_uploaded_once_though_it_is_used_twice(
    peer: FalPeer, client: Make, large_picture: Image
) -> None:
    client("fal/nano-banana/edit").edit(large_picture, "twins", references=[large_picture])
    assert peer.count("upload") == 1
    first, second = peer.last("submit").json["image_urls"]
    assert first == second
    stored = peer.files.get(first.removeprefix(peer.origin))
    assert stored is not None
    assert stored == (large_picture.bytes, "image/png")


def test_the_submits_of_one_plan_share_an_upload(peer: FalPeer, large_picture: Image) -> None:
    async def main() -> None:
        async with AsyncImageClient(
            "fal/flux-pro/kontext", api_key=peer.key, base_url=peer.origin
        ) as client:
            await client.edit(large_picture, "make it blue", n=3, seed=1)

    asyncio.run(main())
    assert (peer.count("submit"), peer.count("upload"), peer.count("token")) == (3, 1, 1)


def test_the_store_gets_its_own_token_and_not_the_key(
    peer: FalPeer, client: Make, large_picture: Image
) -> None:
    client("fal/flux-pro/kontext").edit(large_picture, "make it blue")
    assert peer.last("token").headers["authorization"] == f"Key {peer.key}"
    given = peer.last("upload").headers["authorization"]
    assert given.startswith("Bearer ")
    assert peer.key not in given


def test_an_address_is_passed_on_unread(peer: FalPeer, client: Make, picture: Image) -> None:
    url = "https://pictures.example/a.png"
    peer.web[url] = picture.bytes
    plan = client("fal/flux-pro/kontext").plan_edit(url, "make it blue")
    plan.run()
    assert peer.last("submit").json["image_url"] == url


def test_an_upload_that_fails_for_a_moment_is_repeated(
    peer: FalPeer, client: Make, large_picture: Image
) -> None:
    peer.fault(status(503), on="upload", times=1)
    assert client("fal/flux-pro/kontext").edit(large_picture, "make it blue").images
    assert (peer.count("upload"), peer.paid_posts) == (2, 1)


def test_nothing_is_paid_when_the_upload_fails(
    peer: FalPeer, client: Make, large_picture: Image
) -> None:
    peer.fault(status(403), on="upload")
    with pytest.raises(PermissionDenied):
        client("fal/flux-pro/kontext").edit(large_picture, "make it blue")
    assert peer.count("submit") == 0


def test_a_picture_does_not_go_to_a_store_on_another_host(
    peer: FalPeer, client: Make, large_picture: Image
) -> None:
    token = {"token": "t", "token_type": "Bearer", "expires_at": "2099-01-01T00:00:00+00:00"}
    peer.fault(status(200, {**token, "base_url": peer.stranger.origin}), on="token")
    with pytest.raises(MalformedResponse, match="another host"):
        client("fal/flux-pro/kontext").edit(large_picture, "make it blue")
    assert peer.stranger.requests == []
    assert peer.count("submit") == 0


@pytest.mark.parametrize(("kind", "field"), [("token", "token"), ("upload", "access_url")])
def test_an_upload_that_answers_nonsense_is_malformed(
    kind: str, field: str, peer: FalPeer, client: Make, large_picture: Image
) -> None:
    peer.fault(missing(field), on=kind)
    with pytest.raises(MalformedResponse):
        client("fal/flux-pro/kontext").edit(large_picture, "make it blue")
    assert peer.count("submit") == 0


def test_a_picture_in_extra_is_sent_as_a_picture(
    peer: FalPeer, client: Make, picture: Image
) -> None:
    client("fal/some/model").generate("a fox", extra={"images": [{"it": picture}]})
    assert peer.last("submit").json["images"] == [{"it": picture.data_url()}]
