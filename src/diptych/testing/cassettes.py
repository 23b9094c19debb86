"""Cassettes without secrets: how pytest-recording is to write down what a plug-in says and hears.

    @pytest.fixture(scope="module")
    def vcr_config():
        return scrubbed("live", secrets=[os.environ.get("OPENAI_API_KEY")])

A cassette says of itself, in a header of every response, whether it is "synthetic" (recorded from a
loopback peer) or "live" (recorded from the service). A request is answered by the recording with the
same method, path, query and body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

__all__ = ["KIND", "scrubbed"]

KIND = "x-diptych-recording"
"""The header that tells the kind of a recording."""

GONE = "REDACTED"
_PRIVATE = re.compile(
    r"authorization|api[-_]?key|cookie|token|secret|organization|project|account|client-ip|user-id",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"sig|signature|token|key|credential|expires|policy", re.IGNORECASE)
_URL = re.compile(r"https?://(?:[^\s\"'\\<>]|\\u0026|\\/)+")
_NAMES = re.compile(r"\b(?:org-|proj_|user-|sk-)[A-Za-z0-9_*-]{12,}")
"""How OpenAI writes accounts and (half hidden) keys into its messages."""


def scrubbed(
    kind: Literal["synthetic", "live"],
    *,
    secrets: Iterable[str | None] = (),
    instead: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Settings for pytest-recording's `vcr_config`.

    Headers that identify an account are replaced. So are, wherever they stand, in bodies too: every
    one of `secrets`, names of accounts as OpenAI writes them, and the queries of signed URLs.
    `instead` replaces further texts, such as the address of a peer, which is another in every run.
    """
    texts = {each: GONE for each in secrets if each} | dict(instead or {})

    def clean(value: Any) -> Any:
        if isinstance(value, bytes):
            # Latin-1 gives back the same bytes, also those of a picture.
            return clean(value.decode("latin-1")).encode("latin-1")
        if isinstance(value, str):
            for text, other in texts.items():
                value = value.replace(text, other)
            return _NAMES.sub(GONE, _URL.sub(lambda url: _unsigned(url[0]), value))
        if isinstance(value, list):
            return [clean(each) for each in value]
        return value

    def headers(given: Mapping[str, Any]) -> dict[str, Any]:
        kept = {}
        for name, value in given.items():
            whole = [GONE] if isinstance(value, list) else GONE
            kept[name] = whole if _PRIVATE.search(name) else clean(value)
        return kept

    def request(asked: Any) -> Any:
        asked.uri = clean(asked.uri)
        asked.headers = headers(dict(asked.headers))
        asked.body = clean(asked.body)
        return asked

    def response(answer: dict[str, Any]) -> dict[str, Any]:
        body = {name: clean(value) for name, value in answer["body"].items()}
        told = headers(answer["headers"]) | {KIND: [kind]}
        # A body that was changed is as long as it is.
        told = {name: value for name, value in told.items() if name.lower() != "content-length"}
        return {**answer, "headers": told, "body": body}

    return {
        "before_record_request": request,
        "before_record_response": response,
        "match_on": ["method", "path", "query", "body"],
        "decode_compressed_response": True,
    }


def _unsigned(url: str) -> str:
    """`url` without the query of a signature; other queries say what was asked for."""
    plain, _, query = url.partition("?")
    names = [pair.partition("=")[0] for pair in re.split(r"&|\\u0026", query)]
    return plain if any(map(_SIGNED.search, names)) else url
