"""Every error that diptych raises.

    DiptychError
    ├─ ConfigurationError          nothing was sent: the set-up is wrong
    │  ├─ MissingCredentials
    │  ├─ ProviderNotInstalled
    │  ├─ UnknownModel
    │  ├─ RetiredModel
    │  └─ NoDefaultModel
    ├─ RequestError                nothing was sent: the request is wrong
    │  ├─ UnsupportedOption
    │  ├─ InvalidInput
    │  └─ BudgetExceeded
    ├─ ProviderError               the provider answered, and the answer is no
    │  ├─ AuthenticationFailed
    │  ├─ PermissionDenied
    │  ├─ QuotaExhausted
    │  ├─ RateLimited
    │  ├─ ContentBlocked
    │  ├─ Unavailable
    │  └─ MalformedResponse
    ├─ OutcomeUnknown              sent, no answer: it may have been billed
    ├─ DeadlineExceeded            the caller's deadline passed first
    └─ Cancelled                   the caller stopped it

A message says what was wrong, what is allowed and what to do. The vendor's own exception never
escapes; a stand-in with its name and its text, keys removed, is chained as the cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Result

__all__ = [
    "AuthenticationFailed",
    "BudgetExceeded",
    "Cancelled",
    "ConfigurationError",
    "ContentBlocked",
    "DeadlineExceeded",
    "DiptychError",
    "InvalidInput",
    "MalformedResponse",
    "MissingCredentials",
    "NoDefaultModel",
    "OutcomeUnknown",
    "PermissionDenied",
    "ProviderError",
    "ProviderNotInstalled",
    "QuotaExhausted",
    "RateLimited",
    "RequestError",
    "RetiredModel",
    "Unavailable",
    "UnknownModel",
    "UnsupportedOption",
    "VendorFailure",
]


class DiptychError(Exception):
    """Base of every error that diptych raises.

    `partial` holds the `Result` of the calls that did succeed when a request that was split into
    several paid calls failed in part: paid work is never lost. `handle` resumes the job with
    `client.resume(handle)` when the provider had accepted one. Each is None otherwise.
    """

    partial: Result | None = None
    handle: str | None = None


class ConfigurationError(DiptychError):
    """The set-up is wrong; nothing was sent."""


class MissingCredentials(ConfigurationError):
    """No key was found. The message names the variables that were looked for."""


class ProviderNotInstalled(ConfigurationError):
    """The provider's plug-in, or the SDK it needs, is missing. The message has the pip command."""


class UnknownModel(ConfigurationError):
    """No provider or model of that name; `nearest` holds the closest known references."""

    def __init__(self, message: str, *, nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)


class RetiredModel(ConfigurationError):
    """The model was shut down on `shutdown`; `successor` is the reference to use instead."""

    def __init__(
        self, message: str, *, shutdown: date | None = None, successor: str | None = None
    ) -> None:
        super().__init__(message)
        self.shutdown = shutdown
        self.successor = successor


class NoDefaultModel(ConfigurationError):
    """`ImageClient()` was called without a model and none is configured or installed."""


class RequestError(DiptychError):
    """The request is wrong; nothing was sent and nothing was spent."""


class UnsupportedOption(RequestError):
    """The model cannot honour `option`. The message says what it can do instead."""

    def __init__(self, message: str, *, option: str) -> None:
        super().__init__(message)
        self.option = option


class InvalidInput(RequestError):
    """A value is malformed or out of range. The message says what is allowed."""


class BudgetExceeded(RequestError):
    """The estimate's upper end does not fit in what is left of the budget."""


class ProviderError(DiptychError):
    """The provider refused or failed.

    `status` is the HTTP status (None when the failure came in a 200 or from a local engine),
    `code` the provider's own error code, `request_id` what its support asks for, and `retryable`
    says that the request was certainly not accepted, so sending it again cannot bill twice.
    """

    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.code = code
        self.request_id = request_id
        if retryable is not None:
            self.retryable = retryable


class AuthenticationFailed(ProviderError):
    """The key is wrong, revoked or for another environment (HTTP 401)."""


class PermissionDenied(ProviderError):
    """The key is valid but may not do this (HTTP 403)."""


class QuotaExhausted(ProviderError):
    """Credit or a spending limit is used up. Waiting does not help, so it is never retried."""


class RateLimited(ProviderError):
    """Too many requests. `retry_after` is in seconds, or None when the provider did not say."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.retry_after = retry_after


class ContentBlocked(ProviderError):
    """Moderation refused. `stage` is "input", "output" or "unknown"; `categories` as reported."""

    def __init__(
        self,
        message: str,
        *,
        stage: str = "unknown",
        categories: Sequence[str] = (),
        **fields: Any,
    ) -> None:
        super().__init__(message, **fields)
        self.stage = stage
        self.categories = tuple(categories)


class Unavailable(ProviderError):
    """The provider cannot be reached or failed on its side."""


class MalformedResponse(ProviderError):
    """An answer came, but it is not what the provider documents (HTML, broken base64, ...)."""


class OutcomeUnknown(DiptychError):
    """The request was sent and no answer came: it may have been accepted and billed.

    It is never sent again by itself. `handle` resumes the job with `client.resume(handle)` when
    the provider had already named it, else it is None.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        handle: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.handle = handle
        self.request_id = request_id


class DeadlineExceeded(DiptychError):
    """`timeout` seconds passed first.

    `job` is the handle to go on waiting with `client.resume(job)` when the provider holds a job,
    else None. `may_be_billed` tells whether a paid request had left before the deadline.
    """

    def __init__(
        self, message: str, *, job: str | None = None, may_be_billed: bool = False
    ) -> None:
        super().__init__(message)
        self.job = job
        self.may_be_billed = may_be_billed


class Cancelled(DiptychError):
    """The caller cancelled the job."""


class VendorFailure(Exception):
    """Stand-in for a vendor SDK's exception: its class name and its text with keys removed."""
