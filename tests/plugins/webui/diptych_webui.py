"""Stable Diffusion web UI and the servers that speak its API (Forge, SD.Next), for diptych.

ImageClient("webui/current", base_url="http://127.0.0.1:7860")
ImageClient("webui/sd_xl_base_1.0", base_url=..., api_key="user:password")    # --api-auth
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from diptych.cards import EditMode, ModelCard, Option, Paradigm, refused
from diptych.errors import (
    AuthenticationFailed,
    DiptychError,
    InvalidInput,
    MalformedResponse,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    RateLimited,
    Unavailable,
    UnsupportedOption,
)
from diptych.image import Image
from diptych.keys import scrub
from diptych.notices import Notice
from diptych.plan import Call, Plan, State
from diptych.provider import Outcome, Provider, RunContext, RunEvent, Settings
from diptych.request import Request
from diptych.sizes import Sizes

if TYPE_CHECKING:
    import httpx

__all__ = ["WebUIProvider"]

FIELDS = {
    "negative_prompt": "negative_prompt",
    "guidance": "cfg_scale",
    "steps": "steps",
    "change": "denoising_strength",
}
ELSEWHERE = {"n", "size", "aspect", "seed", "mask", "extra"}
BATCH = 8

CURRENT = ModelCard(
    ref="webui/current",
    paradigm=Paradigm.DIFFUSION,
    edits=frozenset({EditMode.IMG2IMG, EditMode.INPAINT}),
    options={
        "n": Option(),
        "size": Option(),
        "aspect": Option(),
        "seed": Option(high=2**32 - 1),
        "negative_prompt": Option(),
        "guidance": Option(low=1, high=30, default=7),
        "steps": Option(low=1, high=150),
        "change": Option(default=0.75),
        "mask": Option(),
        "extra": Option(),
        "format": refused("a setting of the server decides"),
    },
    sizes=Sizes(kind="free", multiple=8, min_pixels=64 * 64, max_edge=2048, budget=512 * 512),
    max_n=BATCH,
    source="stable-diffusion-webui 1.10, modules/api, July 2024",
    note="whichever checkpoint the server has loaded",
)


class WebUIProvider(Provider):
    """A web UI server, by default on this machine. `api_key` is the "user:password" of --api-auth."""

    name: ClassVar[str] = "webui"
    requires: ClassVar[str] = "httpx>=0.27"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._server = (settings.base_url or "http://127.0.0.1:7860").rstrip("/")
        self._client: httpx.AsyncClient | None = None

    # Planning

    def cards(self) -> Iterable[ModelCard]:
        return [CURRENT]

    def card(self, model: str) -> ModelCard:
        if model == "current":
            return CURRENT
        return replace(CURRENT, ref=f"webui/{model}", known=False, note="a checkpoint by its name")

    def plan(self, request: Request, card: ModelCard, state: State | None) -> Plan:
        for name in request.given():
            if name not in FIELDS.keys() | ELSEWHERE:
                raise UnsupportedOption(f"{card.ref} has no {name}", option=name)
        payload, notices = {"prompt": request.prompt}, list[Notice]()
        for name, field in FIELDS.items():
            if (value := getattr(request, name)) is not None:
                payload[field] = value
        if card.ref != CURRENT.ref:
            payload["override_settings"] = {"sd_model_checkpoint": card.ref.partition("/")[2]}
        size = request.geometry.size
        if request.image is not None:
            picture = request.image.upright()
            payload["init_images"] = [picture]
            # The server would squeeze the picture into 512x512; its grid is 8 pixels.
            size = size or tuple(max(64, round(side / 8) * 8) for side in picture.size)
            if size != picture.size:
                told = f"the picture is resized to {size[0]}x{size[1]}"
                notices.append(Notice("translated", told, "size"))
        if request.mask is not None:
            payload["mask"] = Image.of(request.mask.png())  # white is repainted, as here
        if size is not None:
            payload["width"], payload["height"] = size
        for name, value in request.extra.items():
            if name in payload or name in ("seed", "batch_size"):
                raise InvalidInput(f"extra[{name!r}] says again what an option says; give it once")
            payload[name] = value
        path = "txt2img" if request.image is None else "img2img"
        calls = []
        for first in range(0, request.n, BATCH):
            images = min(BATCH, request.n - first)
            own: dict[str, Any] = {"batch_size": images} if images > 1 else {}
            seeds: tuple[int, ...] = ()
            if request.seed is not None:  # a batch counts up from its seed by itself
                own["seed"] = request.seed + first
                seeds = tuple(range(own["seed"], own["seed"] + images))
            calls.append(
                Call(
                    operation=path,
                    method="POST",
                    target=f"{self._server}/sdapi/v1/{path}",
                    payload={**payload, **own},
                    images=images,
                    seeds=seeds,
                )
            )
        return Plan(
            model=card.ref,
            mode=str(request.mode or "generate"),
            calls=tuple(calls),
            request=request,
            notices=tuple(notices),
        )

    # Running

    async def run(self, call: Call, context: RunContext) -> AsyncIterator[RunEvent]:
        import httpx

        body = {name: _encoded(value) for name, value in call.payload.items()}
        client = self._connected()
        context.sent()
        failure: DiptychError
        try:
            reply = await client.post(call.target, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            told = f"no server at {self._server}: {error}; start it with --api"
            failure = Unavailable(told, provider=self.name, retryable=True)
        except httpx.HTTPError as error:
            told = f"{self._server} gave no answer ({error!r}); the pictures may have been made"
            failure = OutcomeUnknown(told, provider=self.name)
        else:
            yield self._outcome(reply, call)
            return
        raise failure

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _connected(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            key = self.config.api_key
            user, _, password = ("" if key is None else key.reveal()).partition(":")
            # The core enforces the deadline; a host that drops packets is told apart sooner.
            self._client = httpx.AsyncClient(
                auth=httpx.BasicAuth(user, password) if user else None,
                timeout=httpx.Timeout(None, connect=10),
            )
        return self._client

    def _outcome(self, reply: httpx.Response, call: Call) -> Outcome:
        if reply.status_code != 200:
            raise self._refusal(reply)
        try:
            images = [Image.of(base64.b64decode(each)) for each in reply.json()["images"]]
        except (ValueError, KeyError, TypeError, InvalidInput) as error:
            told = f"{self._server} answered with something else than pictures: {error!r}"
            raise MalformedResponse(told, provider=self.name) from None
        return Outcome(images=tuple(images[: call.images]))  # a mask may follow

    def _refusal(self, reply: httpx.Response) -> ProviderError:
        status = reply.status_code
        kinds: dict[int, type[ProviderError]] = {
            401: AuthenticationFailed,
            403: PermissionDenied,
            429: RateLimited,
        }
        kind = kinds.get(status, ProviderError if status < 500 else Unavailable)
        text = scrub(reply.text[:500], [self.config.api_key])
        return kind(f"the web UI answers {status}: {text}", provider=self.name, status=status)


def _encoded(value: Any) -> Any:
    if isinstance(value, Image):
        return base64.b64encode(value.bytes).decode()
    return [_encoded(each) for each in value] if isinstance(value, list) else value
