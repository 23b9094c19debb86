"""What lies in the cassettes, and what never gets into one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from vcr.request import Request

from diptych.testing.cassettes import KIND, scrubbed

FOLDER = Path(__file__).parent / "cassettes"
CANARY = "sk-canary"


def recordings():
    return sorted(FOLDER.rglob("*.yaml"))


def test_the_synthetic_recordings_are_there():
    assert len(recordings()) >= 4


@pytest.mark.parametrize("file", recordings(), ids=lambda file: file.stem)
def test_a_recording_says_what_it_is_and_holds_no_key(file):
    text = file.read_text()
    assert CANARY not in text
    kinds = {
        value
        for each in yaml.safe_load(text)["interactions"]
        for value in each["response"]["headers"][KIND]
    }
    assert len(kinds) == 1
    assert kinds <= {"synthetic", "live"}
    for each in yaml.safe_load(text)["interactions"]:
        for name, value in each["request"]["headers"].items():
            assert "authorization" not in name.lower() or value in ("REDACTED", ["REDACTED"])


def test_secrets_leave_headers_addresses_and_bodies():
    settings = scrubbed("live", secrets=["hush", None], instead={"peer:1": "peer:0"})
    asked = Request(
        "POST",
        "https://peer:1/a?X-Amz-Signature=abc&x=hush",
        b'{"key": "hush", "prompt": "a fox"}',
        {"Authorization": "Bearer other", "OpenAI-Organization": "org-1", "Accept": "hush/*"},
    )
    cleaned = settings["before_record_request"](asked)
    assert cleaned.uri == "https://peer:0/a"
    assert cleaned.body == b'{"key": "REDACTED", "prompt": "a fox"}'
    assert dict(cleaned.headers) == {
        "Authorization": "REDACTED",
        "OpenAI-Organization": "REDACTED",
        "Accept": "REDACTED/*",
    }
    answer = {
        "status": {"code": 200, "message": "OK"},
        "headers": {"Set-Cookie": ["a=b"], "Content-Length": ["4"], "x-request-id": ["r"]},
        "body": {"string": b"hush"},
    }
    told = settings["before_record_response"](answer)
    assert told["headers"] == {"Set-Cookie": ["REDACTED"], "x-request-id": ["r"], KIND: ["live"]}
    assert told["body"]["string"] == b"REDACTED"
    assert settings["before_record_request"](
        Request("GET", "https://host/a?logs=1", b"", {})
    ).uri.endswith("?logs=1")


def test_signed_addresses_and_accounts_leave_bodies():
    said = {
        "message": "Incorrect API key provided: sk-proj-********9f2Q, organization org-0123456789abcdef",
        "url": "https://host/a.png?X-Amz-Signature=abc\\u0026X-Amz-Expires=60",
        "other": "https://host/b.png?size=2",
        "picture": "iVBORw0KGgo=",
    }
    text = "{" + ", ".join(f'"{name}": "{value}"' for name, value in said.items()) + "}"
    settings = scrubbed("live")
    answer = {
        "status": {"code": 401, "message": "no"},
        "headers": {"Location": ["https://host/c.png?sig=abc"]},
        "body": {"string": text.encode()},
    }
    told = settings["before_record_response"](answer)
    assert json.loads(told["body"]["string"]) == {
        "message": "Incorrect API key provided: REDACTED, organization REDACTED",
        "url": "https://host/a.png",
        "other": "https://host/b.png?size=2",
        "picture": "iVBORw0KGgo=",
    }
    assert told["headers"]["Location"] == ["https://host/c.png"]


def test_a_picture_is_recorded_as_it_came():
    data = bytes(range(256)) * 4
    answer = {"status": {}, "headers": {}, "body": {"string": data}}
    assert scrubbed("live")["before_record_response"](answer)["body"]["string"] == data
