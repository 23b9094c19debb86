"""What really crosses the socket, and how answers become outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from diptych_openai.errors import Answered, refusal
from diptych_openai.transport import Transport

from diptych import ImageClient
from diptych.errors import AuthenticationFailed, MalformedResponse, MissingCredentials
from diptych.image import Image
from diptych.keys import Secret
from diptych.mask import Mask
from diptych.provider import Settings
from diptych.testing.peers import OpenAIPeer, missing, other_picture, redirect, status

MODEL = "gpt-image-2"


def test_the_payload_of_the_plan_is_the_body_that_is_sent(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    made = bench(peer)
    (call,) = made.plan(MODEL, size="1024x1024", quality="low", n=2).calls
    result = made.run(call)
    assert peer.last("generate").json == dict(call.payload)
    assert [image.size for image in result.images] == [(1024, 1024)] * 2
    assert result.request_id.startswith("req_")
    assert result.model == "openai/gpt-image-2"
    assert peer.paid_posts == 1


def test_an_edit_is_a_form_with_named_and_typed_files(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    made = bench(peer)
    source, reference = picture((64, 48), "jpeg"), picture((32, 32), "webp")
    mask = Mask.box((0, 0, 32, 48), size=(64, 48))
    (call,) = made.plan(MODEL, "a hat", image=source, references=[reference], mask=mask).calls
    made.run(call)
    sent = peer.last("edit")
    assert sent.form == {"model": MODEL, "prompt": "a hat"}
    assert [(file.field, file.filename, file.content_type) for file in sent.files] == [
        ("image[]", "image-1.jpeg", "image/jpeg"),
        ("image[]", "image-2.webp", "image/webp"),
        ("mask", "mask.png", "image/png"),
    ]
    assert sent.files[0].data == source.bytes
    # The peer reads alpha as the service does: the left half, white in ours, is what it repaints.
    assert sent.seen.change_box == (0, 0, 32, 48)


def test_the_same_edit_is_the_same_bytes(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    made = bench(peer)
    (call,) = made.plan(MODEL, "a hat", image=picture()).calls
    made.run(call)
    made.run(call)
    first, second = peer.requests
    assert first.body == second.body
    made.run(made.plan(MODEL, "a cap", image=picture()).calls[0])
    boundary = [each.headers["content-type"] for each in peer.requests]
    assert boundary[0] == boundary[1] != boundary[2]


def test_nested_parameters_of_a_form(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    made = bench(peer)
    svg = {"model": "gpt-5.4", "reasoning": {"effort": "low"}}
    plan = made.plan(
        "gpt-image-2.5-flare", "a logo", image=picture(), format="svg", extra={"svg": svg}
    )
    result = made.run(plan.calls[0])
    form = peer.last("edit").form
    assert (form["svg[model]"], form["svg[reasoning][effort]"]) == ("gpt-5.4", "low")
    assert result.images[0].format == "svg"


def test_the_json_form_of_an_edit(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    made = bench(peer)
    mask = Mask.box((0, 0, 32, 48), size=(64, 48))
    (call,) = made.plan(
        MODEL, "a hat", image=picture(), mask=mask, extra={"moderation": "low"}
    ).calls
    made.run(call)
    sent = peer.last("edit")
    assert sent.json["moderation"] == "low"
    assert sent.json["images"][0]["image_url"].startswith("data:image/png;base64,")
    assert sent.seen.change_box == (0, 0, 32, 48)


def test_a_picture_given_by_url_is_fetched_and_made_ready(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    data = picture(kind="gif").bytes

    class Web(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Web) as web:
        thread = Thread(target=web.handle_request)
        thread.start()
        made = bench(peer)
        link = Image.from_url(f"http://127.0.0.1:{web.server_port}/fox.gif")
        result = made.run(made.plan(MODEL, "make it red", image=link).calls[0])
        thread.join()
    assert peer.last("edit").files[0].content_type == "image/png"
    assert [each.option for each in result.notices] == ["image"]


def test_headers_of_the_settings_go_with_every_request(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    made = bench(peer, organization="org-1", project="proj-1", default_headers={"X-Team": "art"})
    made.run(made.plan(MODEL).calls[0])
    headers = peer.last("generate").headers
    assert headers["authorization"] == f"Bearer {peer.key}"
    assert headers["openai-organization"] == "org-1"
    assert headers["openai-project"] == "proj-1"
    assert headers["x-team"] == "art"


def test_no_key_is_taken_from_the_environment_behind_our_back(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-from-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/elsewhere")
    with OpenAIPeer(key="", dialect="compatible") as peer:
        made = bench(peer, api_key=None)
        made.run(made.plan("any-model").calls[0])
        sent = peer.last("generate")
    assert not any("sk-from-the-environment" in value for value in sent.headers.values())


def test_azure_gets_its_own_header_and_path(bench: Callable[..., Any], peer: OpenAIPeer) -> None:
    made = bench(
        base_url=f"{peer.azure_endpoint}/openai",
        api_key=peer.key,
        api_version="2025-04-01-preview",
    )
    (call,) = made.plan(MODEL).calls
    made.run(call)
    sent = peer.last("generate")
    assert call.target == f"{peer.origin}{sent.path}?api-version=2025-04-01-preview"
    assert sent.path == f"/openai/deployments/{MODEL}/images/generations"
    assert sent.query == {"api-version": "2025-04-01-preview"}
    assert sent.headers["api-key"] == peer.key
    assert "authorization" not in sent.headers


def test_azure_without_a_key_says_so(bench: Callable[..., Any], peer: OpenAIPeer) -> None:
    made = bench(base_url=f"{peer.azure_endpoint}/openai", api_key=None, api_version="v")
    with pytest.raises(MissingCredentials, match="api_key"):
        made.run(made.plan(MODEL).calls[0])


def test_the_cost_is_computed_from_the_reported_tokens(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    made = bench(peer)
    result = made.run(made.plan(MODEL, "make it red", image=picture()).calls[0])
    usage = result.raw["usage"]
    into = usage["input_tokens_details"]
    tokens = 5 * into["text_tokens"] + 8 * into["image_tokens"] + 30 * usage["output_tokens"]
    assert result.cost.amount == Decimal(tokens) / 1_000_000
    assert result.cost.source == "computed"


@pytest.mark.parametrize("names", [("usage",), ("usage", "size", "quality", "output_format")])
def test_what_other_servers_leave_out_is_unknown_not_zero(
    bench: Callable[..., Any], peer: OpenAIPeer, names: tuple[str, ...]
) -> None:
    peer.fault(missing(*names))
    made = bench(peer)
    result = made.run(made.plan(MODEL).calls[0])
    assert len(result.images) == 1
    assert result.usage is None
    assert result.cost.amount is None


def test_a_picture_of_another_type_than_announced_is_kept_and_noticed(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    peer.fault(other_picture("webp"))
    made = bench(peer)
    result = made.run(made.plan(MODEL).calls[0])
    assert result.images[0].format == "webp"
    assert [each.option for each in result.notices if each.kind == "mismatch"] == ["format"]


def test_raw_holds_the_answer_without_pictures(bench: Callable[..., Any], peer: OpenAIPeer) -> None:
    made = bench(peer)
    result = made.run(made.plan(MODEL).calls[0])
    assert result.raw["size"] == "1024x1024"
    assert len(json.dumps(result.raw)) < 2_000


def test_a_rewritten_prompt_is_kept_with_its_picture(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    text = picture().data_url().partition(",")[2]
    peer.fault(status(200, {"data": [{"b64_json": text, "revised_prompt": "a red fox"}]}))
    made = bench(peer)
    result = made.run(made.plan(MODEL).calls[0])
    assert result.images[0].provenance["revised_prompt"] == "a red fox"


# Pictures by link, as some compatible servers answer


def test_a_data_url_is_a_picture(
    bench: Callable[..., Any], peer: OpenAIPeer, picture: Callable[..., Image]
) -> None:
    peer.fault(status(200, {"data": [{"url": picture().data_url()}]}))
    made = bench(peer)
    assert made.run(made.plan(MODEL).calls[0]).images == (picture(),)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/fox.png",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/fox.png",
        "https://[::1]/fox.png",
        "https://localhost/fox.png",
        "https://user:pass@example.com/fox.png",
        "https://metadata.internal/fox.png",
        "file:///etc/passwd",
    ],
)
def test_links_that_lead_inside_are_not_followed(
    bench: Callable[..., Any], peer: OpenAIPeer, url: str
) -> None:
    peer.fault(status(200, {"data": [{"url": url}]}))
    made = bench(peer)
    with pytest.raises(MalformedResponse, match="link") as caught:
        made.run(made.plan(MODEL).calls[0])
    assert "pass@" not in str(caught.value)


def test_a_link_to_the_server_itself_is_fetched_without_the_key(
    bench: Callable[..., Any], peer: OpenAIPeer
) -> None:
    # Nothing is there, which shows in the error; what matters is what the server was sent.
    peer.fault(status(200, {"data": [{"url": f"{peer.origin}/pictures/fox.png"}]}), on="generate")
    made = bench(peer)
    with pytest.raises(MalformedResponse, match="billed"):
        made.run(made.plan(MODEL).calls[0])
    asked = peer.last("other")
    assert asked.path == "/pictures/fox.png"
    assert "authorization" not in asked.headers
    assert peer.count("generate") == 1


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_the_key_stays(
    bench: Callable[..., Any], peer: OpenAIPeer, code: int
) -> None:
    peer.fault(redirect(code=code))
    made = bench(peer)
    with pytest.raises(MalformedResponse, match="redirect") as caught:
        made.run(made.plan(MODEL).calls[0])
    assert caught.value.status == code
    assert peer.stranger.requests == []


def test_errors_name_the_service_that_was_asked(peer: OpenAIPeer) -> None:
    peer.fault(status(401))
    with (
        ImageClient("openai/any-model", api_key="another", base_url=peer.base_url) as client,
        pytest.raises(AuthenticationFailed) as refused,
    ):
        client.generate("a fox")
    assert str(refused.value).startswith("the server at 127.0.0.1:")
    assert "OPENAI_API_KEY" not in str(refused.value)
    official = Transport(Settings(api_key=Secret("key"))).origin
    assert str(refusal(Answered(message="No.", status=403), official)).startswith("OpenAI does not")
