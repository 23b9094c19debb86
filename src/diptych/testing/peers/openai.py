"""`OpenAIPeer`: a loopback server that speaks OpenAI's image wire format."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Literal

from . import openai_images as images
from .openai_responses import Conversations
from .openai_rules import (
    CHAT_MODELS,
    IMAGE_MODELS,
    Refused,
    check,
    check_prompt,
    refuse,
)
from .pictures import from_data_url
from .server import Peer
from .wire import Reply, Request

__all__ = ["OpenAIPeer"]

DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)(/.+)")
KINDS = {
    "/images/generations": "generate",
    "/images/edits": "edit",
    "/responses": "responses",
}
ERROR_KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", None),
    409: ("invalid_request_error", "conflict"),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}


class OpenAIPeer(Peer):
    """OpenAI's Images and Responses APIs, and Azure's paths for them, on a loopback socket.

        with OpenAIPeer() as peer:
            client = openai.OpenAI(api_key=peer.key, base_url=peer.base_url)
            client.images.generate(model="gpt-image-2", prompt="a fox", size="1024x1024")
            assert peer.paid_posts == 1

    Requests are validated as the service does it; models whose shutdown date is not after `today`
    do not exist. `image` replaces every picture by fixed bytes, `text` is what the chat model says
    beside a picture. The dialect "compatible" is that of a third-party server: it takes any model
    and any parameter and answers with nothing but `created` and `data`.

    Kinds of requests: "generate", "edit", "responses" (paid), "models", "other".
    """

    paid: ClassVar[frozenset[str]] = frozenset({"generate", "edit", "responses"})

    def __init__(
        self,
        *,
        image: bytes | None = None,
        text: str = "Here is the picture.",
        today: date = date(2026, 11, 23),
        dialect: Literal["openai", "compatible"] = "openai",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.image = image
        self.text = text
        self.today = today
        self.dialect = dialect
        self.files: dict[str, bytes] = {}
        self.conversations = Conversations(self.fetch)
        self._answered = 0

    @property
    def base_url(self) -> str:
        """What to give to `openai.OpenAI(base_url=...)`."""
        return f"{self.origin}/v1"

    @property
    def azure_endpoint(self) -> str:
        """What to give to `openai.AzureOpenAI(azure_endpoint=...)`."""
        return self.origin

    def add_file(self, data: bytes) -> str:
        """Make a file that requests can name; returns its `file-...` id."""
        name = f"file-{hashlib.sha256(data).hexdigest()[:24]}"
        self.files[name] = data
        return name

    def classify(self, request: Request) -> str:
        path = _plain_path(request.path)
        if request.method == "POST":
            return KINDS.get(path, "other")
        return "models" if path.startswith("/models") else "other"

    def respond(self, request: Request) -> Reply:
        self._answered += 1
        try:
            self._check_key(request)
            reply = self._route(request)
        except Refused as refused:
            reply = refused.reply
        number = hashlib.sha256(b"%d" % self._answered).hexdigest()[:32]
        return reply.with_headers(
            x_request_id=f"req_{number}",
            openai_processing_ms=str(int(self.delay * 1000) + 12),
            openai_version="2020-10-01",
        )

    def error_body(self, status: int) -> dict[str, Any]:
        kind, code = ERROR_KINDS.get(status, ("server_error" if status >= 500 else "", None))
        message = f"The peer was told to answer with status {status}."
        kind = kind or "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def fetch(self, reference: Any, param: str) -> bytes:
        """The bytes behind a data URL, a file id or a URL in `web`, or `Refused`."""
        if isinstance(reference, str):
            reference = {"image_url": reference}
        if not isinstance(reference, Mapping):
            raise refuse(f"Invalid type for '{param}'.", param, code="invalid_type")
        if file := reference.get("file_id"):
            if file not in self.files:
                raise refuse(
                    f"File '{file}' was not found.", "file_id", code="image_file_not_found"
                )
            return self.files[file]
        url = str(reference.get("image_url", ""))
        if url.startswith("data:"):
            try:
                return from_data_url(url)
            except ValueError:
                message = f"Invalid '{param}': not a base64 data URL."
                raise refuse(message, param, code="invalid_base64_image") from None
        if url not in self.web:
            raise refuse("Error while downloading file. Upstream status code: 404.", "url")
        return self.web[url]

    def _check_key(self, request: Request) -> None:
        if request.foreign:
            return
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.path.startswith("/openai/"):
            key = request.headers.get("api-key", key)
        if key == self.key:
            return
        hint = "https://platform.openai.com/account/api-keys"
        challenge = {"www-authenticate": 'Bearer realm="OpenAI API"'}
        if not key:
            message = f"You didn't provide an API key. You can find yours at {hint}."
            raise refuse(message, status=401, code=None, headers=challenge)
        message = f"Incorrect API key provided: {key}. You can find your API key at {hint}."
        raise refuse(message, status=401, code="invalid_api_key", headers=challenge)

    def _route(self, request: Request) -> Reply:
        if request.kind == "models" and request.method == "GET":
            return self._models(_plain_path(request.path))
        if request.kind not in self.paid:
            message = f"Invalid URL ({request.method} {request.path})"
            raise refuse(message, status=404, code=None)
        if DEPLOYMENT.fullmatch(request.path) and "api-version" not in request.query:
            raise refuse("Resource not found", status=404, code="404")
        form = request.kind == "edit" and request.json is None
        given = images.form_parameters(request) if form else request.json
        if not isinstance(given, dict):
            raise refuse("We could not parse the JSON body of your request.", code=None)
        if request.path.startswith("/openai/"):
            given = self._deployed(given, request.path)
        created = int(time.time())
        if request.kind == "responses":
            reply, seen = self.conversations.respond(
                given, created=created, today=self.today, text=self.text, image=self.image
            )
            request.seen = seen
            return reply
        job = self._job(request, given)
        request.seen = job.seen
        return images.images_reply(job, created=created, plain=self.dialect == "compatible")

    def _deployed(self, given: dict[str, Any], path: str) -> dict[str, Any]:
        """On Azure the model is the name of a deployment, which may be any."""
        match = DEPLOYMENT.fullmatch(path)
        name = match[1] if match else given.get("model")
        if path.endswith("/responses"):
            return {**given, "model": name if name in CHAT_MODELS else "gpt-5.4"}
        return {**given, "model": name if name in IMAGE_MODELS else "gpt-image-2"}

    def _job(self, request: Request, given: dict[str, Any]) -> images.Job:
        prompt = check_prompt(given.get("prompt"))
        json_edit = request.kind == "edit" and request.json is not None
        if self.dialect == "openai":
            check(given, "edit json" if json_edit else request.kind, today=self.today)
        if request.kind == "generate":
            return images.Job(prompt, given, fixed=self.image)
        if json_edit:
            files, mask = images.referenced(given, self.fetch)
        else:
            files, mask = images.uploaded(request), request.upload("mask")
            if (markup := request.upload("markup")) is not None:
                images.read_mask(markup, images.read_picture(files[0], "image"), "markup")
        sources = images.read_pictures(files)
        alpha = None if mask is None else images.read_mask(mask, sources[0])
        return images.Job(prompt, given, sources, alpha, self.image)

    def _models(self, path: str) -> Reply:
        dates = {name: model.shutdown for name, model in IMAGE_MODELS.items()} | CHAT_MODELS
        alive = {n: d for n, d in dates.items() if d is None or d > self.today}
        born = int(datetime(2026, 4, 21, tzinfo=UTC).timestamp())
        listed = [
            {
                "id": name,
                "object": "model",
                "created": born,
                "owned_by": "system",
                "shutdown_date": None if day is None else day.isoformat(),
            }
            for name, day in alive.items()
        ]
        if path == "/models":
            return Reply(data={"object": "list", "data": listed})
        wanted = path.removeprefix("/models/")
        for model in listed:
            if model["id"] == wanted:
                return Reply(data=model)
        message = f"The model '{wanted}' does not exist"
        raise refuse(message, "model", status=404, code="model_not_found")


def _plain_path(path: str) -> str:
    """The path behind the version or the Azure deployment."""
    if match := DEPLOYMENT.fullmatch(path):
        return match[2]
    for prefix in ("/openai/v1", "/v1", "/openai"):
        if path.startswith(prefix + "/"):
            return path[len(prefix) :]
    return path
