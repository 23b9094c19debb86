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

from diptych.errors import InvalidInput, MissingCredentials
from diptych.image import Image
from diptych.keys import Secret
from diptych.plan import Call
from diptych.provider import Settings

from .errors import Origin, malformed
from .images_api import EDIT, GENERATE
from .turns import TURN

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai._types import RequestOptions

__all__ = ["BASE_URL", "Reply", "Transport"]

BASE_URL = "https://api.openai.com/v1"
_PATHS = {GENERATE: "/images/generations", EDIT: "/images/edits", TURN: "/responses"}
_MAX_ANSWER = 512 * 2**20
_CONNECT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A 200: its headers, and either its whole body or its events."""

    headers: Mapping[str, str]
    body: bytes = b""
    events: AsyncIterator[Any] | None = None

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-request-id") or self.headers.get("apim-request-id")


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
        if self._azure and not (settings.base_url or self._options.get("azure_endpoint")):
            raise InvalidInput("Azure needs azure_endpoint='https://<resource>.openai.azure.com'")
        if self._azure and not self._options.get("api_version"):
            raise InvalidInput("Azure needs api_version=, such as '2025-04-01-preview'")
        _check_headers(settings.api_key, headers)
        hidden = (Secret(str(value)) for value in headers.values() if len(str(value)) >= 8)
        secrets = (settings.api_key,) if settings.api_key is not None else ()
        self.origin = Origin(urlsplit(self._base).netloc.rpartition("@")[2], (*secrets, *hidden))

    @property
    def base_url(self) -> str:
        return self._base

    @property
    def official(self) -> bool:
        """Whether the service is OpenAI's own, or Azure's."""
        host = urlsplit(self._base).hostname or ""
        return host == "api.openai.com" or self._azure or host.endswith(AZURE_HOSTS)

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
        """Send `call` once. Raises what the SDK raises, and `MalformedResponse` if too large."""
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
        path = _PATHS[call.operation]
        if payload.get("stream"):
            async with self._events(client, path, body, files, options) as reply:
                yield reply
            return
        from httpx2 import Response
        from openai import AsyncStream

        # A stream to the SDK, which then leaves the body unread: it is read here, with a limit.
        response: Any = await client.post(
            path,
            cast_to=Response,
            body=_plain(body),
            files=files,
            options=cast("RequestOptions", options),
            stream=True,
            stream_cls=AsyncStream[object],
        )
        yield Reply(response.headers, await self._whole(response))

    @asynccontextmanager
    async def _events(
        self, client: AsyncOpenAI, path: str, body: Any, files: Any, options: Any
    ) -> AsyncIterator[Reply]:
        from openai import AsyncStream

        stream = await client.post(
            path,
            cast_to=object,
            body=_plain(body),
            files=files,
            options=cast("RequestOptions", options),
            stream=True,
            stream_cls=AsyncStream[object],
        )
        try:
            headers = stream.response.headers
            if headers.get("content-type", "").startswith("text/event-stream"):
                yield Reply(headers, events=stream.__aiter__())
            else:
                # A server that does not stream, or an error page: iterating would end in silence.
                yield Reply(headers, await self._whole(stream.response))
        finally:
            await stream.close()

    async def _whole(self, response: Any) -> bytes:
        """The body, read with a limit."""
        parts, size = [], 0
        try:
            async for part in response.aiter_bytes():
                size += len(part)
                if size > _MAX_ANSWER:
                    raise malformed(
                        f"answered with more than {_MAX_ANSWER:,} bytes",
                        self.origin,
                        request_id=response.headers.get("x-request-id"),
                    )
                parts.append(part)
        finally:
            await response.aclose()
        return parts[0] if len(parts) == 1 else b"".join(parts)

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
