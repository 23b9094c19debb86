"""What goes wrong at fal, as diptych's errors. The only module that names httpx's exceptions.

An error is `retryable` when the request was certainly not accepted, or when repeating it is free.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

import httpx

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

if TYPE_CHECKING:
    from .wire import Answer

__all__ = ["FAILURES", "Step", "connection", "malformed", "refusal", "unlearned"]

FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
"""What a request may raise when the network or the peer misbehaves."""

Step = Literal["submit", "status", "result", "cancel", "upload", "download"]
"""Which request it was. Only "submit" is paid; all others may be repeated."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_BILLING = re.compile(
    r"exhausted balance|top[ _]up|billing|(insufficient|no|out of) (credit|funds|balance)",
    re.IGNORECASE,
)
_POLICY = "content_policy_violation"
_INPUTS = re.compile(r"prompt|image_urls?|mask|reference|control")
_OUTPUTS = re.compile(r"images|output|response|result")
_SHOWN, _READ = 600, 65_536
"""Characters of an answer that a message shows, and bytes that are read for them: keys are taken
out before anything is cut, so that no half of one stays."""


def connection(error: Exception, step: Step, key: Secret | None) -> DiptychError:
    """The error for a request that got no whole answer."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    failure: DiptychError
    if isinstance(error, _NOT_SENT):
        why, mended = _unreachable(error)
        failure = Unavailable(
            scrub(f"fal cannot be reached: {why} ({text}); nothing was sent", [key]),
            provider="fal",
            retryable=mended,
        )
    elif isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        failure = Unavailable(
            scrub(f"fal cannot be asked ({text}); nothing was sent, check base_url", [key]),
            provider="fal",
        )
    elif step == "submit":
        failure = OutcomeUnknown(
            scrub(
                f"the connection to fal broke after the job was sent ({text}): it may have been accepted "
                "and billed, so it is not sent again; look at fal's request history",
                [key],
            ),
            provider="fal",
        )
    else:
        failure = Unavailable(
            scrub(f"the connection to fal broke during {step} ({text})", [key]),
            provider="fal",
            retryable=True,
        )
    failure.__cause__ = _stand_in(error, key)
    return failure


def _unreachable(error: BaseException) -> tuple[str, bool]:
    """Why no connection came about, and whether trying again may help."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLError):
            return "the TLS handshake failed; check proxies and certificates", False
        if isinstance(cause, socket.gaierror):
            return "its name was not resolved; check the network", True
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused", True
    return "no connection came about", True


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def _stand_in(error: BaseException, key: Secret | None) -> VendorFailure:
    kind = type(error)
    return VendorFailure(scrub(f"{kind.__module__}.{kind.__qualname__}: {error}", [key]))


def malformed(
    what: str, *, key: Secret | None = None, request_id: str | None = None, retryable: bool = False
) -> MalformedResponse:
    """An answer that is not what fal documents; `what` completes "fal answered ..."."""
    return MalformedResponse(
        scrub(f"fal answered {what}", [key])[:_SHOWN],
        provider="fal",
        request_id=request_id,
        retryable=retryable,
    )


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error body says: its text, its code, and where the model saw the fault."""

    text: str = ""
    code: str | None = None
    place: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    final: bool = False

    @property
    def stage(self) -> str:
        for part in self.place:
            if _OUTPUTS.fullmatch(part):
                return "output"
            if _INPUTS.match(part):
                return "input"
        return "unknown"


def refusal(
    answer: Answer, step: Step, key: Secret | None, *, request_id: str | None = None
) -> DiptychError:
    """The error for an answer whose status is not 2xx."""
    complaint = _complaint(answer)
    request_id = answer.headers.get("x-fal-request-id") or request_id
    said = scrub(f"fal says: {complaint.text or 'nothing'}", [key])[:_SHOWN]
    failure = _refusal(answer, step, complaint, said, request_id)
    body = scrub(answer.body[:_READ].decode(errors="replace"), [key])[:_SHOWN]
    failure.__cause__ = VendorFailure(f"HTTP {answer.status}: {body}")
    return failure


def _refusal(
    answer: Answer, step: Step, complaint: Complaint, said: str, request_id: str | None
) -> DiptychError:
    status = answer.status
    facts: dict[str, Any] = {
        "provider": "fal",
        "status": status,
        "code": complaint.code,
        "request_id": request_id,
    }
    # The verdict on a finished job stays the same however often it is asked for.
    free = not (step == "result" and complaint.final)
    if 300 <= status < 400:
        return ProviderError(
            f"fal redirected the request ({status}), and the key does not follow redirects; "
            "check base_url",
            **facts,
        )
    if complaint.code == _POLICY:
        return ContentBlocked(
            f"{said}; change the words or the pictures",
            stage=complaint.stage,
            categories=complaint.categories,
            **facts,
        )
    if status == 402 or (status in (403, 429) and _BILLING.search(f"{said} {complaint.code}")):
        return QuotaExhausted(f"{said}; top up at fal.ai/dashboard/billing", **facts)
    match status:
        case 401:
            return AuthenticationFailed(f"{said}; check FAL_KEY or api_key=", **facts)
        case 403:
            return PermissionDenied(f"{said}; the key may not do this", **facts)
        case 429:
            wait = _retry_after(answer.headers)
            return RateLimited(f"{said}; slow down", retry_after=wait, retryable=free, **facts)
        case 502 | 504 if step == "submit":
            return OutcomeUnknown(
                f"a gateway answered {status}: the job may have been accepted and billed, so it is not "
                f"sent again; look at fal's request history ({said})",
                provider="fal",
                request_id=request_id,
            )
        case 503:
            return Unavailable(said, retryable=free, **facts)
        case 408 | 500 | 502 | 504:
            return Unavailable(said, retryable=free and step != "submit", **facts)
        case _ if status >= 500:
            return Unavailable(said, retryable=False, **facts)
        case 404 | 405 if step == "submit":
            return ProviderError(f"{said}; check the endpoint id", **facts)
        case _:
            return ProviderError(said, **facts)


def _complaint(answer: Answer) -> Complaint:
    """Read the error body: `detail` is a text, or a list of the model's own findings.

    `final` says that fal or the model spoke, and not a gateway on the way: asking for the same
    result again would bring the same answer.
    """
    code = answer.headers.get("x-fal-error-type")
    limited = answer.headers.get("x-fal-request-timeout-type")
    try:
        body = answer.json()
    except ValueError:
        return Complaint(_plain(answer), code, final=code is not None or limited is not None)
    if not isinstance(body, dict):
        return Complaint(str(body), code)
    code = _text(body.get("error_type")) or code
    detail = body.get("detail", body.get("error", body.get("message")))
    if isinstance(detail, list) and detail:
        return _findings(detail, code)
    final = bool(code or limited or (answer.status == 500 and detail))
    return Complaint(_text(detail) or str(detail or body), code, final=final)


def _findings(detail: Sequence[Any], code: str | None) -> Complaint:
    lines: list[str] = []
    places: list[str] = []
    categories: tuple[str, ...] = ()
    for item in detail:
        if not isinstance(item, dict):
            lines.append(str(item))
            continue
        place = tuple(map(str, item.get("loc") or ()))
        places += place
        lines.append(f"{'.'.join(place)}: {item.get('msg')}" if place else str(item.get("msg")))
        kind = _text(item.get("type"))
        if kind is not None and (code is None or kind == _POLICY):
            code = kind
        found = item.get("ctx")
        found = found.get("categories") if isinstance(found, dict) else None
        if isinstance(found, list):
            categories += tuple(map(str, found))
    return Complaint("; ".join(lines), code, tuple(places), categories, final=True)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _plain(answer: Answer) -> str:
    """The text of a body that is not JSON; of an HTML page only that it is one."""
    text = answer.body[:_READ].decode(errors="replace").strip()
    return f"an HTML page with status {answer.status}" if text.startswith("<") else text


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number of seconds or a date."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def unlearned(error: DiptychError, request_id: str) -> DiptychError:
    """What to raise for `error` once fal has accepted job `request_id`.

    A retryable error would make the core submit, and pay, again. What could not be asked is
    unknown; everything else stands, but is not retryable any more.
    """
    if not isinstance(error, ProviderError) or not error.retryable:
        return error
    if isinstance(error, MalformedResponse):
        error.retryable = False
        return error
    lost = OutcomeUnknown(
        f"fal has accepted job {request_id}, but it could not be followed to its end ({error}); the job "
        "goes on there: resume it with its handle",
        provider="fal",
        request_id=request_id,
    )
    lost.__cause__ = error.__cause__
    return lost
