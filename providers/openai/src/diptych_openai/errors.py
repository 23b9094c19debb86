"""From the vendor's failures to diptych's errors; no other module names the vendor's exceptions.

What decides is whether the request may have been accepted: only an error that is certain of the
opposite is `retryable`, and a loss after the bytes may have left is `OutcomeUnknown`.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from diptych.errors import (
    AuthenticationFailed,
    ContentBlocked,
    DiptychError,
    MalformedResponse,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
    VendorFailure,
)
from diptych.keys import Secret, scrub

__all__ = ["Answered", "Origin", "malformed", "refusal", "translate", "vendor_errors"]

NAME = "openai"

_BILLING = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "organization_usage_limit_exceeded",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
_MODERATION = frozenset(
    {
        "refusal",
        "moderation_blocked",
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "ResponsibleAIPolicyViolation",
    }
)
# A proxy that gave up on a request does not know what became of it.
_GAVE_UP = frozenset({408, 502, 504, 520, 524})
_VIOLATIONS = re.compile(r"safety_violations=\[([^\]]*)\]")
_KEY_LIKE = re.compile(r"\b(sk|sess)-[\w*.-]{4,}")
_LONGEST = 600
_SILENT = "no reason was given"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who is talked to, and what must not appear in any text.

    `vendor` is its name where the host is known to be a vendor's, else None.
    """

    host: str
    secrets: tuple[Secret, ...] = ()
    vendor: str | None = None

    def __str__(self) -> str:
        return self.vendor or f"the server at {self.host}"

    @property
    def key_from(self) -> str:
        """Where its key comes from; that of the environment goes to the vendor's hosts only."""
        return "api_key=" if self.vendor is None else "OPENAI_API_KEY or api_key="

    def clean(self, text: str) -> str:
        """`text` without keys, also the masked ones that the service repeats, and not too long."""
        text = _KEY_LIKE.sub(r"\1-***", scrub(text, self.secrets))
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A refusal as the service words it, wherever in an answer it stood."""

    message: str
    status: int | None = None
    code: str | None = None
    kind: str | None = None
    param: str | None = None
    details: Mapping[str, Any] | None = None
    request_id: str | None = None
    retry_after: float | None = None

    @classmethod
    def read(
        cls,
        body: Any,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> Answered:
        """From the JSON of an answer: OpenAI's object, a string, or other servers' `detail`."""
        error = body
        for name in ("error", "detail", "message"):
            if isinstance(error, Mapping) and error.get(name) and not _is_error(error):
                error = error[name]
        if not isinstance(error, Mapping):
            error = {"message": _words(error)}
        kind, code = _text(error.get("type")), _text(error.get("code"))
        return cls(
            message=_words(error.get("message")) or _phrase(status),
            status=status,
            code=code if code is not None else kind,
            kind=kind,
            param=_text(error.get("param")),
            details=error,
            request_id=request_id,
            retry_after=retry_after,
        )


def _is_error(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("message"), str)


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _words(value: Any) -> str:
    """The message in what may be a string, a list of problems (FastAPI's `detail`) or nothing."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "; ".join(filter(None, map(_words, value)))
    if isinstance(value, Mapping):
        return _words(value.get("msg") or value.get("message"))
    return "" if value is None else str(value).strip()


def _phrase(status: int | None) -> str:
    try:
        return HTTPStatus(status or 0).phrase if status != HTTPStatus.OK else _SILENT
    except ValueError:
        return _SILENT


def refusal(answer: Answered, origin: Origin) -> DiptychError:
    """The error for what the service refused or failed at."""
    said = origin.clean(answer.message)
    fields: dict[str, Any] = {
        "provider": NAME,
        "status": answer.status,
        "code": answer.code,
        "request_id": answer.request_id,
    }
    names = {answer.code, answer.kind}
    status = answer.status or 0
    if _is_moderation(answer, names):
        stage, categories = _moderation(answer)
        listed = f" ({', '.join(categories)})" if categories else ""
        return ContentBlocked(
            f"{origin} blocked this by moderation{listed}: {said}",
            stage=stage,
            categories=categories,
            **fields,
        )
    if names & _BILLING or status == 402:
        return QuotaExhausted(
            f"{origin} will not bill any more: {said} Add credit or raise the limit.", **fields
        )
    if status == 429 or "rate_limit_exceeded" in names:
        # Inside a 200 the request had been accepted, and part of it may have been billed.
        return RateLimited(
            f"{origin} limits the rate: {said}",
            retry_after=answer.retry_after,
            retryable=status == 429,
            **fields,
        )
    if status == 401:
        return AuthenticationFailed(
            f"{origin} did not accept the key: {said} Check {origin.key_from}.",
            **fields,
        )
    if status == 403:
        return PermissionDenied(f"{origin} does not allow this: {said}", **fields)
    if status in _GAVE_UP:
        return OutcomeUnknown(
            f"{origin} answered with {status} ({said}): the request may have been accepted and "
            "billed, so it was not sent again",
            provider=NAME,
            request_id=answer.request_id,
        )
    if status >= 500 or "server_error" in names:
        return Unavailable(f"{origin} failed: {said}", retryable=status == 503, **fields)
    if 300 <= status < 400:
        return MalformedResponse(
            f"{origin} answered with a redirect ({status}); it is not followed, because the key "
            "is for this host alone: give the final address as base_url=",
            **fields,
        )
    where = f" ({answer.param})" if answer.param else ""
    return ProviderError(f"{origin} refused the request{where}: {said}", **fields)


def _is_moderation(answer: Answered, names: set[str | None]) -> bool:
    return bool(names & _MODERATION or (answer.details or {}).get("moderation_details"))


def _moderation(answer: Answered) -> tuple[str, tuple[str, ...]]:
    """Stage and categories, from whichever of the documented places has them."""
    details = answer.details or {}
    inner = details.get("moderation_details")
    if isinstance(inner, Mapping):
        categories = inner.get("categories") or ()
        stage = str(inner.get("moderation_stage") or "unknown")
        return stage, tuple(map(str, categories))
    if found := _VIOLATIONS.search(answer.message):
        return "unknown", tuple(filter(None, map(str.strip, found[1].split(","))))
    azure = details.get("innererror")
    filtered = azure.get("content_filter_result") if isinstance(azure, Mapping) else None
    if isinstance(filtered, Mapping):
        hit = (
            str(name)
            for name, each in filtered.items()
            if isinstance(each, Mapping) and each.get("filtered")
        )
        return "input", tuple(hit)
    return "unknown", ()


def malformed(
    what: str, origin: Origin, *, request_id: str | None, status: int | None = 200
) -> MalformedResponse:
    """The error for a 200 that is not what the service documents."""
    return MalformedResponse(
        f"{origin} {origin.clean(what)}; the request may have been billed, so it was not sent again",
        provider=NAME,
        status=status,
        request_id=request_id,
    )


def vendor_errors() -> tuple[type[Exception], ...]:
    """What the SDK raises, and its transport, whose errors it lets through while reading."""
    import anyio
    import httpx2
    import openai

    return (
        openai.OpenAIError,
        httpx2.HTTPError,
        httpx2.StreamError,
        httpx2.InvalidURL,
        ssl.SSLError,
        anyio.EndOfStream,
        anyio.ClosedResourceError,
        anyio.BrokenResourceError,
    )


def translate(error: Exception, origin: Origin, *, request_id: str | None = None) -> DiptychError:
    """diptych's error for a vendor's, with a stand-in of the original as its cause.

    To be raised outside of the handler, so that the original, which holds the request and its
    headers, is not chained.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        made = refusal(_from_status(error), origin)
    elif isinstance(error, openai.APIConnectionError) or not isinstance(error, openai.OpenAIError):
        made = _lost(error, origin, request_id)
    elif isinstance(error, openai.APIError):
        # An `error` event in a stream: the answer had begun with a 200.
        body = error.body if isinstance(error.body, Mapping) else {"message": error.message}
        made = refusal(Answered.read(body, status=200, request_id=request_id), origin)
    else:
        made = ProviderError(origin.clean(str(error)), provider=NAME)
    kind = type(error)
    made.__cause__ = VendorFailure(
        f"{kind.__module__}.{kind.__qualname__}: {origin.clean(str(error))}"
    )
    return made


def _from_status(error: Any) -> Answered:
    headers = error.response.headers
    return Answered.read(
        error.body if error.body is not None else error.response.text[:_LONGEST],
        status=error.status_code,
        request_id=headers.get("x-request-id") or headers.get("apim-request-id"),
        retry_after=_retry_after(headers),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after`, which holds seconds or an HTTP date."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers[name]) / scale)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return None


def _lost(error: Exception, origin: Origin, request_id: str | None) -> DiptychError:
    """The error for a connection that was not made, or that was lost."""
    import httpx2

    chain = list(_causes(error))
    first = next((each for each in chain if isinstance(each, httpx2.HTTPError)), error)
    host = origin.host
    if isinstance(first, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        tls = any(isinstance(each, ssl.SSLError) for each in chain)
        why = origin.clean(_reason(chain))
        if tls:
            return Unavailable(
                f"no secure connection to {host}: {why}; nothing was sent. Check the address and the "
                "certificates of this machine",
                provider=NAME,
                retryable=False,
            )
        return Unavailable(
            f"{host} cannot be reached: {why}; nothing was sent", provider=NAME, retryable=True
        )
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
        return Unavailable(
            f"the certificate of {host} is not valid; nothing was sent",
            provider=NAME,
            retryable=False,
        )
    if isinstance(
        first, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError
    ):
        return ProviderError(
            f"no valid request can be made for {host}: {origin.clean(str(first))}; check base_url= and "
            "api_key=",
            provider=NAME,
        )
    if isinstance(first, httpx2.ProxyError):
        return Unavailable(
            f"the proxy did not connect to {host}: {origin.clean(str(first))}",
            provider=NAME,
            retryable=False,
        )
    if isinstance(first, httpx2.DecodingError):
        return malformed("answered with a damaged compressed body", origin, request_id=request_id)
    return OutcomeUnknown(
        f"the connection to {host} was lost before its answer was complete "
        f"({type(first).__name__}): the request may have been accepted and billed, so it was not sent "
        "again",
        provider=NAME,
        request_id=request_id,
    )


def _causes(error: BaseException | None) -> Any:
    seen = 0
    while error is not None and seen < 12:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def _reason(chain: Sequence[BaseException]) -> str:
    """The words of the deepest error that has some."""
    return next(
        (text for each in reversed(chain) if (text := str(each).strip())), "no reason given"
    )
