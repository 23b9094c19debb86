"""The vendor's client: made at the first request, asked for bytes, never for typed models.

The SDK builds the URL, authenticates and sends. It does not retry (the core alone does), does not
follow redirects (the key is for one host) and does not parse: an answer is parsed once, here.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from diptych.address import check_address, may_receive_key
from diptych.errors import InvalidInput, MissingCredentials
from diptych.image import Image
from diptych.keys import Secret
from diptych.plan import Call
from diptych.provider import Settings
from diptych.sniff import MAX_BYTES

from .errors import Origin, malformed
from .images_api import EDIT, GENERATE
from .turns import TURN

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import AsyncOpenAI
    from openai._types import RequestOptions

__all__ = ["BASE_URL", "Reply", "Transport"]

BASE_URL = "https://api.openai.com/v1"
_PATHS = {GENERATE: "/images/generations", EDIT: "/images/edits", TURN: "/responses"}
_SLACK = 16 * 2**20
_CONNECT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A 200 whose body is still to be read, at most `limit` bytes of it."""

    response: Response
    origin: Origin
    limit: int

    @property
    def request_id(self) -> str | None:
        headers = self.response.headers
        return headers.get("x-request-id") or headers.get("apim-request-id")

    @property
    def content_type(self) -> str:
        return str(self.response.headers.get("content-type", ""))

    async def body(self) -> bytes:
        """The whole body."""
        return b"".join([part async for part in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `MalformedResponse` beyond the limit."""
        size = 0
        async for part in self.response.aiter_bytes():
            size += len(part)
            if size > self.limit:
                what = f"answered with more than {self.limit:,} bytes"
                raise malformed(what, self.origin, request_id=self.request_id)
            yield part


class Transport:
    """Where requests go, and the connections. Cheap until the first request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = settings.options
        self._azure = any(
            self._options.get(name)
            for name in ("azure_endpoint", "azure_deployment", "api_version")
        )
        self._base = str(settings.base_url or self._options.get("azure_endpoint") or BASE_URL)
        self._base = self._base.rstrip("/")
        self._client: AsyncOpenAI | None = None
        headers = self._options.get("default_headers") or {}
        if not isinstance(headers, Mapping):
            raise InvalidInput("default_headers must be a mapping of header names to texts")
        if self._azure:
            _check_azure(settings)
        _check_headers(settings.api_key, headers)
        hidden = (Secret(str(value)) for value in headers.values() if len(str(value)) >= 8)
        secrets = (settings.api_key,) if settings.api_key is not None else ()
        host = urlsplit(self._base).netloc.rpartition("@")[2]
        self.origin = Origin(host, (*secrets, *hidden), self._vendor())

    @property
    def base_url(self) -> str:
        return self._base

    def _vendor(self) -> str | None:
        host = urlsplit(self._base).hostname or ""
        if self._azure or host.endswith(AZURE_HOSTS):
            return "Azure OpenAI"
        return "OpenAI" if host == "api.openai.com" else None

    @property
    def official(self) -> bool:
        """Whether the service is OpenAI's own, or Azure's."""
        return self.origin.vendor is not None

    def target(self, operation: str, model: str) -> str:
        """The URL that `operation` is sent to."""
        path = _PATHS[operation]
        if not self._azure:
            return self._base + path
        base, version = self._base, self._options["api_version"]
        if not self._settings.base_url:
            base += "/openai"
        if operation != TURN and "/deployments" not in base:
            base += f"/deployments/{self._options.get('azure_deployment') or model}"
        return f"{base}{path}?api-version={version}"

    @asynccontextmanager
    async def send(self, call: Call, payload: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """Send `call` once. Raises what the SDK raises."""
        import httpx2
        from openai import AsyncStream

        client = self._connected()
        headers: dict[str, Any] = {}
        if self._settings.api_key is None and "Authorization" not in (
            self._options.get("default_headers") or {}
        ):
            from openai import Omit

            headers["Authorization"] = Omit()
        options: dict[str, Any] = {
            "headers": headers,
            "follow_redirects": False,
            "security": {"bearer_auth": True},
        }
        files: Any = None
        body: Any = payload
        if call.operation == EDIT and "image" in payload:
            body, files = _form(payload)
            boundary = _boundary(payload)
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        # A stream to the SDK, which then leaves the body unread: it is read here, with a limit.
        path = _PATHS[call.operation]
        response: Any = await client.post(
            path if self._azure else self._base + path,  # the SDK completes that of Azure only
            cast_to=httpx2.Response,
            body=_plain(body),
            files=files,
            options=cast("RequestOptions", options),
            stream=True,
            stream_cls=AsyncStream[object],
        )
        # Base64 is a third longer than the picture; a preview counts as one more picture.
        pictures = call.images + int(payload.get("partial_images") or 0)
        try:
            yield Reply(response, self.origin, pictures * MAX_BYTES * 4 // 3 + _SLACK)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connected(self) -> AsyncOpenAI:
        if self._client is None:
            self._client = self._made()
        return self._client

    def _made(self) -> AsyncOpenAI:
        import httpx2
        import openai

        from .network import transport

        key = self._settings.api_key
        common: dict[str, Any] = {
            # "" and not None: the SDK would look into the environment, whatever the host.
            "api_key": "" if key is None else key.reveal(),
            "admin_api_key": "",
            "organization": self._options.get("organization"),
            "project": self._options.get("project"),
            "max_retries": 0,
            # The core enforces the deadline; a host that drops packets is told apart sooner.
            "timeout": httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            "default_headers": dict(self._options.get("default_headers") or {}),
        }
        if (own := transport()) is not None:
            common["http_client"] = openai.DefaultAsyncHttpxClient(transport=own)
        if not self._azure:
            return openai.AsyncOpenAI(base_url=self._base, **common)
        if key is None:
            raise MissingCredentials("Azure needs api_key=, the key of the resource")
        if self._settings.base_url:
            return openai.AsyncAzureOpenAI(
                base_url=self._base, api_version=self._options["api_version"], **common
            )
        return openai.AsyncAzureOpenAI(
            azure_endpoint=self._base,
            azure_deployment=self._options.get("azure_deployment"),
            api_version=self._options["api_version"],
            **common,
        )


AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


def _check_azure(settings: Settings) -> None:
    """Raises `InvalidInput` for settings that name no service, or one that must not have the key."""
    base_url, endpoint = settings.base_url, settings.options.get("azure_endpoint")
    if endpoint:
        check_address("azure_endpoint", endpoint)
    if not (base_url or endpoint):
        raise InvalidInput("Azure needs azure_endpoint='https://<resource>.openai.azure.com'")
    # The core has checked base_url= alone for a key from the environment.
    if endpoint and (base_url or not may_receive_key(str(endpoint), AZURE_HOSTS)):
        raise InvalidInput(
            f"azure_endpoint= must be an https address under {' or '.join(AZURE_HOSTS)}, without "
            "base_url=; for a gateway before Azure give base_url=, api_version= and api_key="
        )
    if base_url and settings.options.get("azure_deployment"):
        raise InvalidInput("azure_deployment= goes with azure_endpoint=, not with base_url=")
    if not settings.options.get("api_version"):
        raise InvalidInput("Azure needs api_version=, such as '2025-04-01-preview'")


def _check_headers(key: Secret | None, headers: Mapping[Any, Any]) -> None:
    """Refuses what no header can hold here: the transport would repeat it in its complaint."""
    values = {f"default_headers[{name!r}]": value for name, value in headers.items()}
    for name, value in {"api_key": "" if key is None else key.reveal(), **values}.items():
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise InvalidInput(
                f"{name} must be a text of printable ASCII characters; is there a line break in it?"
            )


def _plain(value: Any) -> Any:
    """`value` with every picture as a data URL, or as the URL that it was given by."""
    if isinstance(value, Image):
        return value.data_url() if value.is_fetched else value.url
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _form(
    payload: Mapping[str, Any],
) -> tuple[dict[str, Any], list[tuple[str, tuple[str, bytes, str]]]]:
    """Fields and files of an edit; several pictures go as `image[]`."""
    fields, files = {}, []
    for name, value in payload.items():
        if isinstance(value, Image):
            files.append((name, _file(name, value)))
        elif name == "image":
            files += [
                ("image[]", _file(f"image-{place}", each)) for place, each in enumerate(value, 1)
            ]
        else:
            fields[name] = value
    return fields, files


def _file(name: str, image: Image) -> tuple[str, bytes, str]:
    return f"{name}.{image.format}", image.bytes, image.media_type


def _boundary(payload: Mapping[str, Any]) -> str:
    """The same for the same request, so that recordings match; derived from all of it."""
    digest = hashlib.sha256()
    for name, value in payload.items():
        pictures = value if isinstance(value, list) else [value]
        for each in pictures:
            digest.update(name.encode())
            digest.update(each.bytes if isinstance(each, Image) else repr(each).encode())
    return f"diptych-{digest.hexdigest()[:40]}"
