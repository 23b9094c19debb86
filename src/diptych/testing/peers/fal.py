"""`FalPeer`: a loopback server that speaks fal's queue, its synchronous host, storage and files."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .fal_jobs import Files, Job, Outcome, localise, run_model
from .server import Peer
from .wire import Event, Reply, Request

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["FalPeer"]

JOB = re.compile(
    r"/((?:(?:workflows|comfy)/)?[^/]+/[^/]+)/requests/([^/]+?)(?:/(status|cancel|response))?"
)
PART = re.compile(r"(/files/.+)/multipart/([^/]+)/(\d+|complete)")
FIXED = {
    "/storage/auth/token": "token",
    "/storage/upload/initiate": "upload",
    "/.well-known/jwks.json": "jwks",
    "/v1/models/pricing": "pricing",
    "/v1/models/pricing/estimate": "pricing",
}
PUBLIC = frozenset({"file", "jwks"})


class FalPeer(Peer):
    """fal's queue protocol and what belongs to it, on a loopback socket.

        with FalPeer() as peer:
            fal_client.client.QUEUE_URL_FORMAT = peer.queue_url
            fal_client.client.RUN_URL_FORMAT = peer.run_url
            fal_client.client.REST_URL = fal_client.client.CDN_URL = peer.origin
            fal_client.SyncClient(key=peer.key).subscribe("fal-ai/flux/dev", {"prompt": "a fox"})

    A job is IN_QUEUE for `polls` status requests, IN_PROGRESS for as many more and for `delay`
    seconds, and then COMPLETED, also when it failed: the GET of the response tells. `image`
    replaces every picture by fixed bytes.

    Kinds of requests: "submit", "run", "stream" (paid), "status", "result", "cancel", "file",
    "upload", "token", "pricing", "jwks", "other".
    """

    paid: ClassVar[frozenset[str]] = frozenset({"submit", "run", "stream"})

    def __init__(self, *, polls: int = 1, image: bytes | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.polls = polls
        self.image = image
        self.files = Files()
        self.jobs: dict[str, Job] = {}
        self.prices: dict[str, tuple[float, str]] = {}
        self._outputs: dict[str, Callable[[], Reply]] = {}
        self._uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self._signer: Ed25519PrivateKey | None = None

    @property
    def queue_url(self) -> str:
        """What to assign to `fal_client.client.QUEUE_URL_FORMAT`."""
        return f"{self.origin}/"

    @property
    def run_url(self) -> str:
        """What to assign to `fal_client.client.RUN_URL_FORMAT`."""
        return f"{self.origin}/run/"

    def serve_output(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        *,
        units: str | None = None,
        files: Mapping[str, bytes] | None = None,
        status: int = 200,
    ) -> None:
        """Answer every job of `endpoint` with `body`, for instance a recorded one.

        Its fal.media URLs are rewritten to files of the peer: the bytes that `files` gives for the
        URL, else a picture of the announced type and size. `units` is `x-fal-billable-units`. The
        input of the job is not checked then.
        """
        headers = {} if units is None else {"x-fal-billable-units": units}
        known = dict(files or {})

        def reply() -> Reply:
            return Reply(status, headers, data=localise(dict(body), self._publish, known))

        self._outputs[endpoint] = reply

    def sign_webhook(
        self, body: bytes, *, request_id: str, user_id: str = "peer-user", timestamp: int
    ) -> dict[str, str]:
        """The `X-Fal-Webhook-*` headers for a webhook body, signed with the key of the JWKS.

        `timestamp` is in seconds since 1970.
        """
        digest = hashlib.sha256(body).hexdigest()
        message = f"{request_id}\n{user_id}\n{timestamp}\n{digest}".encode()
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": str(timestamp),
            "X-Fal-Webhook-Signature": self._signing_key().sign(message).hex(),
        }

    def classify(self, request: Request) -> str:
        path, method = request.path, request.method
        if path in FIXED:
            return FIXED[path]
        if path.startswith("/files/"):
            return "file" if method == "GET" else "upload"
        if match := JOB.fullmatch(path):
            if method == "PUT" and match[3] == "cancel":
                return "cancel"
            return "status" if match[3] == "status" else "result"
        if method != "POST" or path.count("/") < 2:
            return "other"
        if path.startswith("/run/"):
            return "stream" if path.endswith("/stream") else "run"
        return "submit"

    def seconds(self, request: Request) -> float:
        return self.delay if request.kind in ("run", "stream") else 0.0

    def respond(self, request: Request) -> Reply:
        reply = self._authorised(request) or self._route(request)
        return reply.with_headers(server="envoy", x_robots_tag="noindex")

    def error_body(self, status: int) -> dict[str, Any]:
        message = f"The peer was told to answer with status {status}."
        kinds = {503: "runner_scheduling_failure", 504: "request_timeout"}
        if status == 422:
            item = {"loc": ["body"], "msg": message, "type": "value_error", "input": None}
            return {"detail": [item]}
        return {"detail": message, **({"error_type": kinds[status]} if status in kinds else {})}

    def _authorised(self, request: Request) -> Reply | None:
        if request.foreign or request.kind in PUBLIC:
            return None
        given = request.headers.get("authorization", "")
        signed = request.method == "PUT" and "signature" in request.query
        if signed or given in (f"Key {self.key}", f"Bearer {self.key}", f"Bearer {self._token()}"):
            return None
        detail = "Authentication is required to access this application."
        if given:
            detail = f"The credentials '{given}' are not valid."
        return Reply(401, data={"detail": detail})

    def _token(self) -> str:
        return "cdn-" + hashlib.sha256(self.key.encode()).hexdigest()[:16]

    def _route(self, request: Request) -> Reply:
        if match := JOB.fullmatch(request.path):
            job = self.jobs.get(match[2])
            if job is None or job.app != match[1]:
                return Reply(404, data={"detail": f"Request {match[2]} was not found."})
            answer = {"status": self._status, "result": self._result, "cancel": self._cancel}
            return answer[request.kind](job, request)
        answers: dict[str, Callable[[Request], Reply]] = {
            "submit": self._submit,
            "run": self._run_now,
            "stream": self._stream_now,
            "file": self._file,
            "upload": self._upload,
            "token": self._give_token,
            "pricing": self._pricing,
            "jwks": self._jwks,
        }
        if request.kind not in answers:
            return Reply(404, data={"detail": f"Path {request.path} was not found."})
        return answers[request.kind](request)

    # The queue.

    def _submit(self, request: Request) -> Reply:
        endpoint = request.path[1:]
        parts = endpoint.split("/")
        app = "/".join(parts[: 3 if parts[0] in ("workflows", "comfy") else 2])
        outcome = self._outcome(endpoint, request)
        name = str(uuid.uuid4())
        job = Job(name, app, outcome, ready_at=time.monotonic() + self.delay)
        self.jobs[name] = job
        base = f"{self.origin}/{app}/requests/{name}"
        body: dict[str, Any] = {
            "status": "IN_QUEUE",
            "request_id": name,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
            "logs": None,
            "metrics": {},
            "queue_position": 0,
        }
        return Reply(200, {"x-fal-request-id": name}, data=body)

    def _outcome(self, endpoint: str, request: Request) -> Outcome:
        if endpoint in self._outputs:
            return Outcome(self._outputs[endpoint]())
        given = request.json
        if not isinstance(given, dict):
            item = {"loc": ["body"], "msg": "Field required", "type": "missing", "input": given}
            return Outcome(Reply(422, data={"detail": [item]}))
        outcome = run_model(
            endpoint, given, fetch=self._fetch, publish=self._publish, image=self.image
        )
        request.seen = outcome.seen
        return outcome

    def _fetch(self, url: str) -> bytes | None:
        if url in self.web:
            return self.web[url]
        known = self.files.get(url.removeprefix(self.origin))
        return None if known is None else known[0]

    def _publish(self, name: str, data: bytes, content_type: str) -> str:
        path = f"/files/b/{hashlib.sha256(data).hexdigest()[:8]}/{name}"
        self.files.put(path, data, content_type)
        return self.origin + path

    def _status(self, job: Job, request: Request) -> Reply:
        done = self._done(job)
        job.polls += 1
        logs = [{"message": "painting", "level": "INFO", "source": "USER",
                 "timestamp": "2026-11-23T00:00:00.000000"}]  # fmt: skip
        shown = logs if request.query.get("logs") in ("true", "1") else None
        body: dict[str, Any] = {"request_id": job.request_id}
        if not done:
            if job.polls <= self.polls:
                body |= {"status": "IN_QUEUE", "queue_position": self.polls - job.polls}
            else:
                body |= {"status": "IN_PROGRESS", "logs": shown}
            return Reply(202, data=body)
        body |= {"status": "COMPLETED", "logs": shown, "metrics": {"inference_time": 1.25}}
        if job.cancelled:
            body |= {"error": "The request was cancelled.", "error_type": "client_cancelled"}
        return Reply(200, data=body)

    def _done(self, job: Job) -> bool:
        return job.cancelled or (job.polls >= 2 * self.polls and time.monotonic() >= job.ready_at)

    def _result(self, job: Job, _: Request) -> Reply:
        named = {"x_fal_request_id": job.request_id}
        if job.cancelled:
            detail = {"detail": "The request was cancelled.", "error_type": "client_cancelled"}
            return Reply(499, data=detail).with_headers(**named)
        if not self._done(job):
            return Reply(400, data={"detail": "Request is still in progress"}).with_headers(**named)
        return job.outcome.reply.with_headers(**named)

    def _cancel(self, job: Job, _: Request) -> Reply:
        if self._done(job):
            return Reply(400, data={"status": "ALREADY_COMPLETED"})
        job.cancelled = True
        return Reply(202, data={"status": "CANCELLATION_REQUESTED"})

    # The synchronous host.

    def _run_now(self, request: Request) -> Reply:
        reply = self._outcome(request.path.removeprefix("/run/"), request).reply
        return reply.with_headers(x_fal_request_id=str(uuid.uuid4()))

    def _stream_now(self, request: Request) -> Reply:
        endpoint = request.path.removeprefix("/run/").removesuffix("/stream")
        reply = self._outcome(endpoint, request).reply
        if reply.status >= 400:
            return reply
        begun = {**reply.data, "has_nsfw_concepts": [False]}
        return Reply(200, reply.headers, events=(Event(None, begun), Event(None, reply.data)))

    # Storage and files.

    def _give_token(self, _: Request) -> Reply:
        body = {
            "token": self._token(),
            "token_type": "Bearer",
            "base_url": self.origin,
            "expires_at": "2099-01-01T00:00:00+00:00",
        }
        return Reply(data=body)

    def _upload(self, request: Request) -> Reply:
        kind = request.headers.get("content-type", "application/octet-stream")
        name = request.headers.get("x-fal-file-name", "upload")
        fresh = f"/files/b/{uuid.uuid4().hex[:8]}/{name}"
        if request.path == "/storage/upload/initiate":
            wanted = request.json or {}
            url = f"{self.origin}/files/b/{uuid.uuid4().hex[:8]}/{wanted.get('file_name')}"
            return Reply(data={"file_url": url, "upload_url": f"{url}?signature=peer"})
        if match := PART.fullmatch(request.path):
            return self._upload_part(request, match)
        if request.path == "/files/upload/multipart":
            number = uuid.uuid4().hex
            self._uploads[number] = (kind, {})
            return Reply(data={"access_url": self.origin + fresh, "uploadId": number})
        if request.method == "PUT":
            self.files.put(request.path, request.body, kind)
            return Reply(200, body=b"")
        self.files.put(fresh, request.body, kind)
        return Reply(data={"access_url": self.origin + fresh})

    def _upload_part(self, request: Request, match: re.Match[str]) -> Reply:
        if match[2] not in self._uploads:
            return Reply(404, data={"detail": "Upload not found"})
        kind, parts = self._uploads[match[2]]
        if match[3] == "complete":
            whole = b"".join(parts[number] for number in sorted(parts))
            self.files.put(match[1], whole, kind)
            return Reply(data={})
        parts[int(match[3])] = request.body
        return Reply(200, {"etag": hashlib.md5(request.body).hexdigest()}, body=b"")

    def _file(self, request: Request) -> Reply:
        known = self.files.get(request.path)
        if known is None:
            return Reply(404, data={"detail": "File not found"})
        return Reply(200, {"content-type": known[1], "access-control-allow-origin": "*"},
                     body=known[0])  # fmt: skip

    # The platform.

    def _pricing(self, request: Request) -> Reply:
        if request.method == "POST":
            wanted = (request.json or {}).get("endpoints", {})
            total = sum(
                self._price(name)[0] * entry.get("unit_quantity", 0)
                for name, entry in wanted.items()
            )
            body = {"estimate_type": "unit_price", "total_cost": total, "currency": "USD"}
            return Reply(data=body)
        names = [name for name in request.query.get("endpoint_id", "").split(",") if name]
        prices = [
            {
                "endpoint_id": name,
                "unit_price": self._price(name)[0],
                "unit": self._price(name)[1],
                "currency": "USD",
            }
            for name in names
        ]
        return Reply(data={"prices": prices, "next_cursor": None, "has_more": False})

    def _price(self, endpoint: str) -> tuple[float, str]:
        return self.prices.get(endpoint, (0.025, "megapixels"))

    def _signing_key(self) -> Ed25519PrivateKey:
        if self._signer is None:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            self._signer = Ed25519PrivateKey.generate()
        return self._signer

    def _jwks(self, _: Request) -> Reply:
        public = self._signing_key().public_key().public_bytes_raw()
        text = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
        return Reply(data={"keys": [{"kty": "OKP", "crv": "Ed25519", "x": text}]})
