"""The queue over a real socket: events, pictures, handles, cancelling, and where the key goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from diptych_fal import FalProvider

from diptych import AsyncImageClient, Completed, Image, ImageClient, Progress, Queued
from diptych.errors import (
    AuthenticationFailed,
    Cancelled,
    ContentBlocked,
    DeadlineExceeded,
    InvalidInput,
    MalformedResponse,
    MissingCredentials,
    OutcomeUnknown,
    ProviderError,
    Unavailable,
)
from diptych.keys import Secret
from diptych.provider import Handle, Settings
from diptych.testing.peers import FalPeer, foreign, missing, nsfw, redirect, status, stuck
from diptych.ticket import Ticket

Make = Callable[..., ImageClient]


def test_one_submit_then_status_result_and_picture(peer: FalPeer, client: Make) -> None:
    result = client("fal/flux/dev").generate("a fox", size="512x384", seed=7, format="png")
    assert [request.kind for request in peer.requests if request.kind != "status"] == [
        "submit",
        "result",
        "file",
    ]
    assert peer.count("status") >= 2
    assert peer.paid_posts == 1
    assert peer.last("submit").json == {
        "prompt": "a fox",
        "image_size": {"width": 512, "height": 384},
        "seed": 7,
        "output_format": "png",
    }
    assert (result.image.size, result.image.format, result.image.seed) == ((512, 384), "png", 7)
    assert result.model == "fal/flux/dev"
    assert result.request_id in peer.jobs
    assert result.usage is not None
    assert result.usage.units == 1
    assert str(result.cost.amount) == "0.025"


def test_pictures_of_one_submit_come_in_order(peer: FalPeer, client: Make) -> None:
    result = client("fal/flux/dev").generate("a fox", n=3)
    assert peer.count("submit") == 1
    assert peer.last("submit").json["num_images"] == 3
    assert len({image.sha256 for image in result}) == 3
    urls = [item["url"] for item in result.raw["images"]]
    served = [peer.files.get(url.removeprefix(peer.origin)) for url in urls]
    assert [image.bytes for image in result] == [each[0] for each in served if each is not None]


def test_position_and_logs_are_events(client: Make, peer: FalPeer) -> None:
    peer.polls = 2
    events = list(client().stream_generate("a fox"))
    assert [event.position for event in events if isinstance(event, Queued)] == [0, 1, 0]
    assert [e.message for e in events if isinstance(e, Progress)] == ["painting"]
    assert all(event.handle for event in events if isinstance(event, Queued))
    assert isinstance(events[-1], Completed)


def test_logs_are_only_asked_for_when_somebody_listens(client: Make, peer: FalPeer) -> None:
    client().generate("a fox")
    assert all("logs" not in request.query for request in peer.requests)


@pytest.mark.parametrize(
    "state",
    [
        {"status": "IN_QUEUE", "queue_position": 9},
        {"status": "IN_QUEUE"},
        {"status": "IN_PROGRESS"},
        {"status": "REHEARSING", "logs": "none"},
        {"logs": [{"message": None}, 3, {}]},
        {},
    ],
)
def test_states_late_twice_or_unheard_of_are_waited_out(
    state: dict[str, Any], peer: FalPeer, client: Make
) -> None:
    peer.fault(status(202, state), on="status", after=1, times=2)
    assert list(client().stream_generate("a fox"))
    assert peer.paid_posts == 1


def test_a_status_that_fails_for_a_moment_is_asked_again(peer: FalPeer, client: Make) -> None:
    peer.fault(status(503), on="status", times=1)
    assert client().generate("a fox").images
    assert peer.paid_posts == 1


def test_missing_addresses_follow_from_the_endpoint(peer: FalPeer, client: Make) -> None:
    peer.fault(missing("status_url", "response_url", "cancel_url"), on="submit")
    assert client("fal/flux-pro/v1.1").generate("a fox").images
    assert peer.last("status").path.startswith("/fal-ai/flux-pro/requests/")


# What an answer may hold


def test_completed_is_not_success(peer: FalPeer, client: Make) -> None:
    body = {"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "string_too_long"}]}
    peer.serve_output("fal-ai/flux-pro/v1.1", body, status=422)
    with pytest.raises(ProviderError, match=r"body\.prompt: too long") as caught:
        client().generate("a fox")
    assert caught.value.code == "string_too_long"
    assert caught.value.status == 422
    assert caught.value.request_id in peer.jobs
    assert not caught.value.retryable


def test_flagged_pictures_are_kept_and_noticed(peer: FalPeer, client: Make) -> None:
    peer.fault(nsfw())
    result = client("fal/flux/dev").generate("a fox", n=2)
    assert len(result) == 2
    flagged = [notice.message for notice in result.notices if notice.kind == "content"]
    assert len(flagged) == 2
    assert "picture 1" in flagged[0]


@pytest.mark.parametrize("null", [None, 0])
def test_a_single_image_with_nothing_else_is_read(null: Any, peer: FalPeer, client: Make) -> None:
    url = "https://v3.fal.media/files/a/x.png"
    peer.serve_output("fal-ai/some/model", {"image": {"url": url, "width": null, "height": null}})
    assert client("fal/some/model").generate("a fox").image.format == "png"


def test_what_the_model_says_is_the_text(peer: FalPeer, client: Make) -> None:
    url = "https://v3.fal.media/files/a/x.png"
    said = {"images": [{"url": url}], "description": "Here you go!", "seed": 12}
    peer.serve_output("fal-ai/nano-banana", said)
    result = client("fal/nano-banana").generate("a fox")
    assert (result.text, result.image.seed) == ("Here you go!", 12)


def test_words_without_a_picture_are_kept(peer: FalPeer, client: Make) -> None:
    peer.serve_output("fal-ai/nano-banana", {"images": [], "description": "I would rather not."})
    result = client("fal/nano-banana").generate("a fox")
    assert (len(result), result.text) == (0, "I would rather not.")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"images": []},
        {"images": "none"},
        {"images": [{}]},
        {"images": [{"url": ""}]},
        {"images": [4]},
    ],
)
def test_an_answer_without_a_picture_is_malformed(
    body: dict[str, Any], peer: FalPeer, client: Make
) -> None:
    peer.serve_output("fal-ai/flux-pro/v1.1", body)
    with pytest.raises(MalformedResponse) as caught:
        client().generate("a fox")
    assert caught.value.request_id in peer.jobs
    assert peer.paid_posts == 1


def test_inline_pictures_are_read_and_kept_out_of_raw(peer: FalPeer, client: Make) -> None:
    result = client().generate("a fox", extra={"sync_mode": True})
    assert result.image.size == (1024, 768)
    assert peer.count("file") == 0
    assert len(str(result.raw)) < 1000


def test_a_picture_of_another_type_than_announced_is_noticed(peer: FalPeer, client: Make) -> None:
    url = "https://v3.fal.media/files/a/x.png"
    gif = Image.of("data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=")
    body = {"images": [{"url": url, "content_type": "image/png"}]}
    peer.serve_output("fal-ai/flux-pro/v1.1", body, files={url: gif.bytes})
    result = client().generate("a fox")
    assert result.image.format == "gif"
    assert any("announced as image/png" in notice.message for notice in result.notices)


# Where the key goes


@pytest.mark.parametrize("name", ["status_url", "response_url", "cancel_url"])
def test_an_address_on_another_host_gets_no_key(name: str, peer: FalPeer, client: Make) -> None:
    peer.fault(foreign(name), on="submit")
    result = client().generate("a fox")
    assert result.images
    assert peer.stranger.requests == []
    assert any("localhost" in notice.message for notice in result.notices)


@pytest.mark.parametrize("kind", ["submit", "status", "result"])
def test_a_redirect_to_another_host_is_not_followed(kind: str, peer: FalPeer, client: Make) -> None:
    peer.fault(redirect(), on=kind)
    with pytest.raises(ProviderError, match="redirect") as caught:
        client().generate("a fox")
    assert caught.value.status == 307
    assert not caught.value.retryable
    assert peer.stranger.requests == []


def test_pictures_come_from_fals_hosts_only(peer: FalPeer, client: Make) -> None:
    peer.fault(foreign("url"), on="result")
    with pytest.raises(MalformedResponse, match="localhost"):
        client().generate("a fox")
    assert peer.stranger.requests == []


def test_a_picture_that_moved_to_another_host_is_not_fetched(peer: FalPeer, client: Make) -> None:
    peer.fault(redirect(), on="file")
    with pytest.raises(MalformedResponse, match="localhost"):
        client().generate("a fox")
    assert peer.stranger.requests == []


def test_pictures_are_fetched_without_credentials(peer: FalPeer, client: Make) -> None:
    client().generate("a fox")
    assert "authorization" not in peer.last("file").headers
    assert peer.last("submit").headers["authorization"] == f"Key {peer.key}"


def test_a_login_of_fals_own_tools_is_never_used(
    peer: FalPeer, client: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "auth0_token").write_text("refresh-token-of-somebody")
    monkeypatch.setenv("FAL_HOME_DIR", str(tmp_path))
    monkeypatch.setenv("FAL_FORCE_AUTH_BY_USER", "1")
    for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingCredentials, match="FAL_KEY"):
        ImageClient("fal/flux/dev")
    with pytest.raises(AuthenticationFailed, match="api_key"):
        client(api_key=None).generate("a fox")
    assert "authorization" not in peer.last("submit").headers


def test_a_key_may_come_in_two_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAL_KEY", raising=False)
    monkeypatch.delenv("FAL_KEY_SECRET", raising=False)
    monkeypatch.setenv("FAL_KEY_ID", "half")
    with pytest.raises(MissingCredentials, match="FAL_KEY_ID with FAL_KEY_SECRET"):
        ImageClient("fal/flux/dev")
    monkeypatch.setenv("FAL_KEY_SECRET", "whole")
    ImageClient("fal/flux/dev").close()


# Jobs


def test_a_job_is_resumed_by_its_handle_in_another_client(peer: FalPeer, client: Make) -> None:
    planted = peer.fault(stuck())
    with pytest.raises(DeadlineExceeded) as caught:
        client("fal/flux-pro/v1.1").generate("a fox", timeout=0.6)
    assert planted.hits
    handle = caught.value.job
    assert handle is not None
    assert peer.key not in handle
    peer.clear()
    job = client("fal/flux-pro/v1.1").resume(handle)
    assert job.result().image.size == (1024, 768)
    assert peer.paid_posts == 1


def test_a_handle_cannot_send_the_key_elsewhere(peer: FalPeer, client: Make) -> None:
    client().generate("a fox")
    (id,) = peer.jobs
    data = dict.fromkeys(("status_url", "response_url"), f"{peer.stranger.origin}/x")
    ticket = Ticket(
        model="fal/flux-pro/v1.1",
        mode="generate",
        prompt="a fox",
        handles=(Handle("fal", "flux-pro/v1.1", id, data),),
    )
    assert client().resume(ticket.encode()).result().images
    assert peer.stranger.requests == []
    crooked = Ticket(
        model="fal/flux-pro/v1.1",
        mode="generate",
        prompt="a fox",
        handles=(Handle("fal", "flux-pro/v1.1", "../../other?x=", {}),),
    )
    with pytest.raises(InvalidInput, match="id of a job"):
        client().resume(crooked.encode()).result()


def test_a_job_is_cancelled_at_fal_too(peer: FalPeer, client: Make) -> None:
    peer.fault(stuck())
    job = client().submit("a fox")
    assert job.cancel()
    assert peer.count("cancel") == 1
    with pytest.raises(Cancelled):
        job.result()


def test_cancelling_too_late_is_told(peer: FalPeer, client: Make) -> None:
    client().generate("a fox")
    (id,) = peer.jobs

    async def asked(id: str) -> bool:
        provider = FalProvider(Settings(api_key=Secret(peer.key), base_url=peer.origin))
        try:
            return await provider.cancel(Handle("fal", "flux-pro/v1.1", id))
        finally:
            await provider.aclose()

    assert asyncio.run(asked(id)) is False
    assert asyncio.run(asked("gone")) is False
    peer.fault(status(500), on="cancel")
    with pytest.raises(Unavailable):
        asyncio.run(asked(id))


def test_a_result_that_cannot_be_asked_for_is_unknown_and_not_paid_twice(
    peer: FalPeer, client: Make
) -> None:
    peer.fault(status(503, "<html>busy</html>"), on="status")
    with pytest.raises(OutcomeUnknown) as caught:
        client(max_retries=1).generate("a fox")
    assert caught.value.request_id in peer.jobs
    assert peer.paid_posts == 1
    peer.clear()
    handle = caught.value.handle
    assert handle is not None
    assert client().resume(handle).result().images
    assert peer.paid_posts == 1


# Many at once, and nothing left behind


def test_many_jobs_share_one_client(peer: FalPeer) -> None:
    async def main() -> list[Any]:
        async with AsyncImageClient(
            "fal/flux/dev", api_key=peer.key, base_url=peer.origin, timeout=60.0
        ) as client:
            return await asyncio.gather(
                *(client.generate(f"fox {number}", size="64x64") for number in range(24))
            )

    results = asyncio.run(main())
    assert len({result.image.sha256 for result in results}) == 24
    assert peer.paid_posts == 24
    peer.wait_until_idle()


@pytest.mark.parametrize("kind", ["submit", "status", "result", "file"])
def test_cancelling_leaves_no_connection_and_no_thread(kind: str, peer: FalPeer) -> None:
    from diptych.testing.peers import silence

    peer.fault(silence(), on=kind)
    before = set(threading.enumerate())

    async def main() -> None:
        async with AsyncImageClient(
            "fal/flux/dev", api_key=peer.key, base_url=peer.origin
        ) as client:
            task = asyncio.create_task(client.generate("a fox", size="64x64"))
            await asyncio.to_thread(peer.wait_for, kind)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(peer.wait_until_idle)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert peer.paid_posts <= 1
    assert set(threading.enumerate()) <= before


def test_moderation_in_a_result_is_told_with_its_stage(peer: FalPeer, client: Make) -> None:
    from diptych.testing.peers import policy_violation

    peer.fault(policy_violation("prompt"))
    with pytest.raises(ContentBlocked) as caught:
        client().generate("a fox")
    assert (caught.value.stage, caught.value.code) == ("input", "content_policy_violation")
