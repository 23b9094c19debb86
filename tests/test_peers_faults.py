"""Every fault of the peers, seen from the client's end of a real socket."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from diptych.testing import peers
from diptych.testing.peers import FalPeer, Fault, OpenAIPeer, Reply, Request

BODY = {"model": "gpt-image-2", "prompt": "a fox", "size": "1024x1024"}
STREAM = {**BODY, "stream": True, "partial_images": 2}
CHAT: dict[str, Any] = {
    "model": "gpt-5.4",
    "input": "a fox",
    "tools": [{"type": "image_generation", "partial_images": 2}],
}


@pytest.fixture
def peer() -> Iterator[OpenAIPeer]:
    with OpenAIPeer() as peer:
        yield peer


@pytest.fixture
def fal() -> Iterator[FalPeer]:
    with FalPeer(polls=0) as peer:
        yield peer


@pytest.fixture
def http(peer: OpenAIPeer) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=peer.base_url, headers={"authorization": f"Bearer {peer.key}"}, timeout=10
    ) as client:
        yield client


@pytest.fixture
def queue(fal: FalPeer) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=fal.origin, headers={"authorization": f"Key {fal.key}"}, timeout=10
    ) as client:
        yield client


def generate(http: httpx.Client, body: dict[str, Any] = BODY) -> httpx.Response:
    return http.post("/images/generations", json=body)


def events(response: httpx.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.strip().split("\n\n")
    return [json.loads(block.partition("data: ")[2]) for block in blocks if block]


def picture_of(response: httpx.Response) -> bytes:
    return base64.b64decode(response.json()["data"][0]["b64_json"], validate=True)


# The connection.


@pytest.mark.parametrize("body", [BODY, STREAM])
@pytest.mark.parametrize("at", ["start", "headers", "middle"])
def test_a_reset_breaks_the_connection_there_and_is_billed(
    peer: OpenAIPeer, http: httpx.Client, at: Any, body: dict[str, Any]
) -> None:
    peer.fault(peers.reset(at))
    with pytest.raises(httpx.ReadError):
        generate(http, body)
    assert peer.paid_posts == 1
    peer.clear()
    assert generate(http).status_code == 200


@pytest.mark.parametrize("at", ["start", "headers", "middle"])
def test_a_drop_is_an_orderly_close_and_is_billed(
    peer: OpenAIPeer, http: httpx.Client, at: Any
) -> None:
    dropped = peer.fault(peers.drop(at))
    with pytest.raises(httpx.RemoteProtocolError):
        generate(http)
    assert (peer.paid_posts, dropped.hits) == (1, 1)


@pytest.mark.parametrize("body", [BODY, STREAM])
@pytest.mark.parametrize("at", ["start", "headers", "middle"])
def test_silence_lasts_until_the_client_leaves(
    peer: OpenAIPeer, at: Any, body: dict[str, Any]
) -> None:
    peer.fault(peers.silence(at))
    headers = {"authorization": f"Bearer {peer.key}"}
    with (
        httpx.Client(base_url=peer.base_url, headers=headers, timeout=0.2) as http,
        pytest.raises(httpx.ReadTimeout),
    ):
        generate(http, body)
    peer.wait_until_idle()


def test_silence_ends_when_the_peer_closes() -> None:
    failed: list[type[Exception]] = []
    with OpenAIPeer() as peer:
        peer.fault(peers.silence())

        def ask() -> None:
            headers = {"authorization": f"Bearer {peer.key}"}
            try:
                httpx.post(
                    f"{peer.base_url}/images/generations", json=BODY, headers=headers, timeout=30
                )
            except httpx.HTTPError as error:
                failed.append(type(error))

        asking = threading.Thread(target=ask)
        asking.start()
        peer.wait_for("generate")
    asking.join()
    assert issubclass(failed[0], httpx.TransportError)


def test_a_stream_breaks_off_after_as_many_events_as_told(
    peer: OpenAIPeer, http: httpx.Client
) -> None:
    peer.fault(peers.reset("middle", events=2))
    received = b""
    with http.stream("POST", "/images/generations", json=STREAM) as response:
        pieces = response.iter_bytes()
        with contextlib.suppress(httpx.ReadError):
            for piece in pieces:
                received += piece
    assert received.count(b"event: ") == 2


def test_a_trickle_comes_whole_but_in_pieces(peer: OpenAIPeer, http: httpx.Client) -> None:
    peer.fault(peers.trickle(piece=200, pause=0.0), on="models")
    with http.stream("GET", "/models") as response:
        pieces = list(response.iter_raw())
    assert json.loads(b"".join(pieces))["object"] == "list"
    peer.image = b"x"
    peer.fault(peers.trickle(piece=200, pause=0.001))
    assert len(events(generate(http, STREAM))) == 3


def test_a_delay_and_a_pace_keep_the_client_waiting(peer: OpenAIPeer, http: httpx.Client) -> None:
    peer.delay = 60
    with pytest.raises(httpx.ReadTimeout):
        http.post("/images/generations", json=BODY, timeout=0.2)
    peer.delay, peer.pace = 0, 60
    received = b""
    with http.stream("POST", "/images/generations", json=STREAM, timeout=0.5) as response:
        pieces = response.iter_bytes()
        with contextlib.suppress(httpx.ReadTimeout):
            for piece in pieces:
                received += piece
    assert received.count(b"event: ") == 1


# Statuses.


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504])
def test_a_status_comes_with_the_body_of_the_service_and_is_not_billed(
    peer: OpenAIPeer, http: httpx.Client, fal: FalPeer, queue: httpx.Client, code: int
) -> None:
    peer.fault(peers.status(code))
    fal.fault(peers.status(code), on="submit")
    ours = generate(http)
    assert ours.status_code == code
    assert set(ours.json()["error"]) == {"message", "type", "param", "code"}
    theirs = queue.post("/fal-ai/flux/dev", json={"prompt": "x"})
    assert theirs.status_code == code
    assert isinstance(theirs.json()["detail"], list if code == 422 else str)
    assert (peer.paid_posts, fal.paid_posts) == (0, 0)


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ({"error": "no"}, "application/json", '{"error":"no"}'),
        ({"detail": "no"}, "application/json", '{"detail":"no"}'),
        ("<html>no</html>", "text/html", "<html>no</html>"),
        (b"no", "text/plain", "no"),
    ],
)
def test_a_status_with_any_body_and_headers(
    peer: OpenAIPeer, http: httpx.Client, body: Any, kind: str, text: str
) -> None:
    peer.fault(peers.status(599, body, headers={"x-should-retry": "false"}, accepted=True))
    answer = generate(http)
    assert (answer.status_code, answer.text) == (599, text)
    assert (answer.headers["content-type"], answer.headers["x-should-retry"]) == (kind, "false")
    assert peer.paid_posts == 1


def test_an_unheard_of_status_has_a_phrase_all_the_same(
    peer: OpenAIPeer, http: httpx.Client
) -> None:
    peer.fault(peers.status(799))
    assert generate(http).reason_phrase == "Unknown"


def test_retry_after_in_seconds_as_a_date_and_not_at_all(
    peer: OpenAIPeer, http: httpx.Client
) -> None:
    date = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)
    for after, shown in ((2, "2"), (1.5, "1.5"), (date, "Mon, 23 Nov 2026 12:00:05 GMT")):
        peer.fault(peers.rate_limited(after), times=1)
        assert generate(http).headers["retry-after"] == shown
    peer.fault(peers.rate_limited(x_should_retry="true"), times=1)
    answer = generate(http)
    assert "retry-after" not in answer.headers
    assert answer.headers["x-should-retry"] == "true"
    assert peer.paid_posts == 0


def test_a_redirect_leads_to_the_stranger_who_sees_whether_a_key_comes_along(
    peer: OpenAIPeer, http: httpx.Client
) -> None:
    peer.fault(peers.redirect())
    answer = generate(http)
    target = f"{peer.stranger.origin}/v1/images/generations"
    assert (answer.status_code, answer.headers["location"]) == (307, target)
    with httpx.Client() as other:
        other.post(target, json=BODY)
        assert not peer.stranger.saw_credentials
        assert len(peer.stranger.requests) == 1
        other.post(target, json=BODY, headers={"x-key": f"my {peer.key}"})
        assert peer.stranger.saw_credentials
    assert peer.paid_posts == 0
    peer.clear()
    peer.fault(peers.redirect("http://localhost:1", 302))
    assert generate(http).headers["location"] == "http://localhost:1/v1/images/generations"


@pytest.mark.parametrize("how", ["authorization", "query", "body"])
def test_the_stranger_finds_a_key_wherever_it_is(peer: OpenAIPeer, how: str) -> None:
    url = f"{peer.stranger.origin}/v1/models"
    more: dict[str, dict[str, Any]] = {
        "authorization": {"headers": {"authorization": "Bearer anything"}},
        "query": {"params": {"key": peer.key}},
        "body": {"content": f"key={peer.key}"},
    }
    httpx.request("POST", url, **more[how])
    assert peer.stranger.saw_credentials


# The content.


def test_html_with_a_200_was_paid_and_with_a_502_was_not(
    peer: OpenAIPeer, http: httpx.Client
) -> None:
    peer.fault(peers.html(), times=1)
    peer.fault(peers.html(502), times=1)
    first, second = generate(http), generate(http)
    assert (first.status_code, second.status_code, peer.paid_posts) == (200, 502, 1)
    assert first.headers["content-type"].startswith("text/html")


def test_truncated_json(peer: OpenAIPeer, http: httpx.Client) -> None:
    peer.fault(peers.truncated_json())
    with pytest.raises(json.JSONDecodeError):
        generate(http).json()
    with pytest.raises(json.JSONDecodeError):
        events(generate(http, STREAM))


def test_missing_fields_and_wrong_base64(peer: OpenAIPeer, http: httpx.Client) -> None:
    peer.fault(peers.missing("b64_json"), times=1)
    assert generate(http).json()["data"] == [{}]
    peer.fault(peers.missing("data", "usage"), times=1)
    assert {"data", "usage"}.isdisjoint(generate(http).json())
    peer.fault(peers.wrong_base64())
    for text in (
        generate(http).json()["data"][0]["b64_json"],
        events(generate(http, STREAM))[-1]["b64_json"],
    ):
        with pytest.raises(ValueError, match="base64"):
            base64.b64decode(text, validate=True)


def test_pictures_that_are_not_what_they_should_be(peer: OpenAIPeer, http: httpx.Client) -> None:
    def faulty(fault: Fault) -> bytes:
        peer.clear()
        peer.fault(fault)
        return picture_of(generate(http))

    assert faulty(peers.empty_picture()) == b""
    assert faulty(peers.picture(b"abc")) == b"abc"
    assert Image.open(io.BytesIO(faulty(peers.other_picture("jpeg")))).format == "JPEG"
    corrupt = Image.open(io.BytesIO(faulty(peers.corrupt_picture())))
    assert corrupt.size == (1024, 1024)
    with pytest.raises(OSError, match="truncated"):
        corrupt.load()
    bomb = faulty(peers.bomb_picture())
    assert len(bomb) < 1000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(bomb))


def read_some(client: httpx.Client, method: str, url: str, **more: Any) -> int:
    """Bytes of a body that were read before it was given up at 4 MB."""
    read = 0
    with client.stream(method, url, **more) as response:
        for piece in response.iter_raw():
            read += len(piece)
            if read > 4_000_000:
                break
    return read


def test_a_picture_without_end_in_json_in_a_stream_and_as_a_file(
    peer: OpenAIPeer, http: httpx.Client, fal: FalPeer, queue: httpx.Client
) -> None:
    peer.fault(peers.endless_picture())
    fal.fault(peers.endless_picture())
    for body in (BODY, STREAM):
        assert read_some(http, "POST", "/images/generations", json=body) > 4_000_000
    result = queue.post("/run/fal-ai/flux/dev", json={"prompt": "x"}).json()
    assert read_some(queue, "GET", result["images"][0]["url"]) > 4_000_000
    inline = {"prompt": "x", "sync_mode": True}
    assert read_some(queue, "POST", "/run/fal-ai/flux/dev", json=inline) > 4_000_000
    peer.wait_until_idle()


def test_files_of_fal_can_be_wrong_as_well(fal: FalPeer, queue: httpx.Client) -> None:
    url = queue.post("/run/fal-ai/flux/dev", json={"prompt": "x"}).json()["images"][0]["url"]
    fal.fault(peers.other_picture("webp"), on="file", times=1)
    wrong = queue.get(url)
    assert wrong.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(wrong.content)).format == "WEBP"
    assert Image.open(io.BytesIO(queue.get(url).content)).format == "JPEG"


# Streams.


def types(found: list[Any]) -> list[str]:
    return [event["type"].rpartition(".")[2] for event in found]


def test_streams_that_end_err_repeat_or_shuffle(peer: OpenAIPeer, http: httpx.Client) -> None:
    def faulty(fault: Fault) -> httpx.Response:
        peer.clear()
        peer.fault(fault)
        return generate(http, STREAM)

    assert types(events(faulty(peers.unterminated()))) == ["partial_image"] * 2
    assert (
        types(events(faulty(peers.duplicated_events())))
        == ["partial_image"] * 4 + ["completed"] * 2
    )
    shuffled = events(faulty(peers.shuffled_partials()))
    assert [event.get("partial_image_index") for event in shuffled] == [1, 0, None]
    assert types(events(faulty(peers.unknown_event())))[0] == "unheard_of"
    document = faulty(peers.json_for_stream())
    assert document.headers["content-type"] == "application/json"
    assert document.json()["type"] == "image_generation.completed"
    flat = events(faulty(peers.flat_error_event("moderation_blocked", "no", after=1)))
    assert (types(flat), flat[1]["code"]) == (["partial_image", "error"], "moderation_blocked")
    nested = events(faulty(peers.nested_error_event("server_error", "no")))
    assert nested[0]["error"]["message"] == "no"


@pytest.mark.parametrize(
    "fault",
    [
        peers.unterminated(),
        peers.duplicated_events(),
        peers.shuffled_partials(),
        peers.json_for_stream(),
        peers.flat_error_event(),
        peers.azure_stream(),
    ],
    ids=lambda fault: fault.name,
)
def test_a_fault_that_does_not_apply_lets_the_answer_pass(
    peer: OpenAIPeer, http: httpx.Client, fault: Fault
) -> None:
    planted = peer.fault(fault)
    assert Image.open(io.BytesIO(picture_of(generate(http)))).size == (1024, 1024)
    assert planted.hits == 0
    assert repr(planted) == f"Planted({fault.name!r}, hits=0)"


def test_one_partial_picture_cannot_be_shuffled_nor_a_refusal_rewritten(
    peer: OpenAIPeer, http: httpx.Client
) -> None:
    planted = [peer.fault(peers.shuffled_partials()), peer.fault(peers.missing("error"))]
    assert len(events(generate(http, {**STREAM, "partial_images": 1}))) == 2
    assert "error" in generate(http, {**BODY, "size": "3x3"}).json()
    assert [one.hits for one in planted] == [0, 0]


def test_streams_of_responses(peer: OpenAIPeer, http: httpx.Client) -> None:
    def faulty(fault: Fault) -> list[Any]:
        peer.clear()
        peer.fault(fault)
        return events(http.post("/responses", json={**CHAT, "stream": True}))

    unfinished = json.dumps(faulty(peers.unterminated()))
    assert '"result"' not in unfinished
    assert "response.completed" not in unfinished
    azure = [event["type"] for event in faulty(peers.azure_stream())]
    assert "response.image_generation_call.completed" not in azure
    assert azure[-1] == "response.completed"
    peer.clear()
    peer.fault(peers.json_for_stream())
    document = http.post("/responses", json={**CHAT, "stream": True}).json()
    assert document["object"] == "response"


# Refusals.


def test_moderation_as_a_400_with_and_without_details(peer: OpenAIPeer, http: httpx.Client) -> None:
    peer.fault(peers.moderation_blocked("input", ("violence",)), times=1)
    error = generate(http).json()["error"]
    assert error["code"] == "moderation_blocked"
    assert error["moderation_details"] == {
        "moderation_stage": "input",
        "categories": ["violence"],
    }
    assert "safety_violations=[violence]" in error["message"]
    peer.fault(peers.moderation_blocked(stage=None))
    assert "moderation_details" not in generate(http).json()["error"]
    assert http.get("/models").status_code == 200
    assert peer.paid_posts == 0


def test_moderation_inside_a_200(peer: OpenAIPeer, http: httpx.Client) -> None:
    peer.fault(peers.failed_call("output", ("sexual",)))
    call = http.post("/responses", json=CHAT).json()["output"][1]
    assert (call["status"], call["result"]) == ("failed", None)
    assert call["error"]["moderation_details"]["categories"] == ["sexual"]
    streamed = events(http.post("/responses", json={**CHAT, "stream": True}))
    assert not [e for e in streamed if e["type"].endswith("partial_image")]
    final = streamed[-1]["response"]["output"][1]
    assert (final["status"], final["error"]["code"]) == ("failed", "moderation_blocked")
    plain = {"model": "gpt-5.4", "input": "hi"}
    assert http.post("/responses", json=plain).json()["status"] == "completed"


def test_responses_that_fail_or_stay_incomplete(peer: OpenAIPeer, http: httpx.Client) -> None:
    cases = (
        (peers.failed_response("server_error", "no"), "failed", "response.failed"),
        (peers.incomplete_response(), "incomplete", "response.incomplete"),
    )
    for fault, state, event in cases:
        peer.clear()
        peer.fault(fault)
        assert http.post("/responses", json=CHAT).json()["status"] == state
        last = events(http.post("/responses", json={**CHAT, "stream": True}))[-1]
        assert (last["type"], last["response"]["status"]) == (event, state)


def test_spent_quotas(
    peer: OpenAIPeer, http: httpx.Client, fal: FalPeer, queue: httpx.Client
) -> None:
    peer.fault(peers.quota_exhausted("project_spend_limit_exceeded"), times=1)
    error = generate(http).json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "project_spend_limit_exceeded")
    peer.fault(peers.billing_limit())
    assert generate(http).json()["error"]["code"] == "billing_hard_limit_reached"
    fal.fault(peers.balance_exhausted())
    locked = queue.post("/fal-ai/flux/dev", json={"prompt": "x"})
    assert (locked.status_code, fal.paid_posts) == (403, 0)
    assert "Exhausted balance" in locked.json()["detail"]


def test_moderation_of_fal(fal: FalPeer, queue: httpx.Client) -> None:
    fal.fault(peers.policy_violation(), times=1)
    job = queue.post("/fal-ai/flux/dev", json={"prompt": "x"}).json()
    refused = queue.get(job["response_url"])
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["type"] == "content_policy_violation"
    fal.fault(peers.nsfw())
    flagged = queue.get(job["response_url"]).json()
    assert flagged["has_nsfw_concepts"] == [True]
    black = queue.get(flagged["images"][0]["url"])
    assert Image.open(io.BytesIO(black.content)).convert("L").getextrema() == (0, 0)
    single = queue.post(
        "/run/fal-ai/esrgan", json={"image_url": flagged["images"][0]["url"]}
    ).json()
    assert "has_nsfw_concepts" not in single


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS"])
def test_a_job_that_never_moves_on(fal: FalPeer, queue: httpx.Client, state: Any) -> None:
    fal.fault(peers.stuck(state))
    job = queue.post("/fal-ai/flux/dev", json={"prompt": "x"}).json()
    answers = [queue.get(job["status_url"]) for _ in range(3)]
    assert [(a.status_code, a.json()["status"]) for a in answers] == [(202, state)] * 3


def test_links_to_a_foreign_host(fal: FalPeer, queue: httpx.Client) -> None:
    fal.fault(peers.foreign("status_url", "response_url"), on="submit")
    fal.fault(peers.foreign("url"), on="result")
    job = queue.post("/fal-ai/flux/dev", json={"prompt": "x"}).json()
    assert job["status_url"].startswith(fal.stranger.origin + "/fal-ai/flux/requests/")
    assert job["cancel_url"].startswith(fal.origin)
    assert httpx.get(job["status_url"]).json()["status"] == "COMPLETED"
    result = httpx.get(job["response_url"]).json()
    assert result["images"]
    assert not fal.stranger.saw_credentials
    queue.get(job["status_url"])
    assert fal.stranger.saw_credentials
    own = queue.get(f"{fal.origin}{httpx.URL(job['response_url']).path}").json()
    assert own["images"][0]["url"].startswith(fal.stranger.origin + "/files/")
    fal.fault(peers.foreign("url"), on="file")
    assert queue.get(fal.origin + "/files/none").status_code == 404


# Planting.


def test_a_fault_strikes_whom_it_is_planted_for(peer: OpenAIPeer, http: httpx.Client) -> None:
    def about_foxes(request: Request) -> bool:
        return "fox" in (request.json or {}).get("prompt", "")

    peer.fault(peers.status(500), on=about_foxes)
    peer.fault(peers.status(501), on="/v1/models")
    peer.fault(peers.status(502), on=("edit", "responses"))
    assert generate(http).status_code == 500
    assert generate(http, {**BODY, "prompt": "a cat"}).status_code == 200
    assert http.get("/models").status_code == 501
    assert http.post("/responses", json=CHAT).status_code == 502
    assert peer.last("responses").fault == "status 502"


def test_a_fault_strikes_as_often_and_as_late_as_told(peer: OpenAIPeer, http: httpx.Client) -> None:
    planted = peer.fault(peers.status(503), after=1, times=2)
    assert [generate(http).status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert planted.hits == 2


def test_a_fault_of_ones_own(peer: OpenAIPeer, http: httpx.Client) -> None:
    teapot = Fault(
        "teapot", lambda exchange: Reply(418, data=exchange.error_body(418)), on=("edit",)
    )
    peer.fault(teapot)
    assert generate(http).status_code == 200
    assert http.post("/images/edits", json={}).status_code == 418


def test_the_sdk_retries_what_the_peer_refuses_and_only_success_is_billed(
    peer: OpenAIPeer,
) -> None:
    peer.fault(peers.rate_limited(0.01), times=2)
    with openai.OpenAI(api_key=peer.key, base_url=peer.base_url, max_retries=3) as client:
        assert client.images.generate(model="gpt-image-2", prompt="a fox").data
    assert (peer.count("generate"), peer.paid_posts) == (3, 1)


def test_a_peer_that_fails_itself_says_so() -> None:
    def broken(_: peers.Exchange) -> Reply:
        raise ZeroDivisionError("my own fault")

    with pytest.raises(RuntimeError, match="itself failed"), OpenAIPeer() as peer:  # noqa: PT012 # it is raised on leaving
        peer.fault(Fault("broken", broken))
        answer = httpx.get(f"{peer.base_url}/models")
        assert answer.status_code == 500
        assert "my own fault" in answer.json()["error"]["message"]


def test_nothing_is_kept_when_nothing_is_to_be_recorded() -> None:
    with OpenAIPeer(record=False) as peer:
        httpx.get(f"{peer.base_url}/models")
        assert peer.requests == []
        assert peer.connections == 1


def test_a_client_that_leaves_in_mid_answer_does_no_harm(peer: OpenAIPeer) -> None:
    peer.fault(peers.endless_picture())
    address = ("127.0.0.1", int(peer.origin.rpartition(":")[2]))
    body = json.dumps(BODY).encode()
    head = (
        f"POST /v1/images/generations HTTP/1.1\r\nauthorization: Bearer {peer.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(address) as sender:
        sender.sendall(head.encode() + body)
        assert sender.recv(100).startswith(b"HTTP/1.1 200")
    peer.wait_until_idle()
