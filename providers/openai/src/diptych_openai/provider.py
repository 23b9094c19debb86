"""The plug-in: settings, cards, plans and runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Any, ClassVar

from diptych.cards import ModelCard
from diptych.errors import InvalidInput
from diptych.plan import Call, Plan, State
from diptych.provider import Provider, RunContext, Settings
from diptych.request import Request

from . import images_api, turns
from .cards import card, cards, family, undated
from .prices import PRICES, estimate
from .run import Event, run
from .transport import AZURE_HOSTS, Transport

__all__ = ["OpenAIProvider"]

CHAT_MODEL = "gpt-5.4"
"""The default chat model of conversations: of the current ids, the one that is on record (2026-03-31)
as calling the image tool."""


class OpenAIProvider(Provider):
    """OpenAI's image models, on OpenAI, on Azure, or on a server that speaks the same wire format.

    Settings: `chat_model`, `store`, `continue_by` and `instructions` are for conversations (see
    `turns`); `organization`, `project` and `default_headers` go with every request;
    `azure_endpoint`, `azure_deployment` and `api_version` select Azure.
    """

    name: ClassVar[str] = "openai"
    env: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    needs_key: ClassVar[bool] = True
    key_hosts: ClassVar[tuple[str, ...]] = ("api.openai.com", *AZURE_HOSTS)
    settings: ClassVar[frozenset[str]] = frozenset(
        {
            "api_version",
            "azure_deployment",
            "azure_endpoint",
            "chat_model",
            "continue_by",
            "default_headers",
            "instructions",
            "organization",
            "project",
            "store",
        }
    )
    requires: ClassVar[str] = "openai>=3,<4"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._transport = Transport(settings)
        self._chat = _chat(settings.options)

    def cards(self) -> Iterable[ModelCard]:
        return cards()

    def card(self, model: str) -> ModelCard:
        return card(model, compatible=not self._transport.official)

    def plan(self, request: Request, card: ModelCard, state: State | None) -> Plan:
        model = card.ref.removeprefix("openai/")
        facts = family(model)
        name = undated(model)
        if state is None:
            operations = (images_api.GENERATE, images_api.EDIT)
            target = {each: self._transport.target(each, model) for each in operations}
            calls, notices = images_api.calls(request, model, facts, target)
        else:
            url = self._transport.target(turns.TURN, model)
            call, notices = turns.call(request, model, facts, url, self._chat, state)
            calls = (call,)
        return Plan(
            model=card.ref,
            mode=request.mode or "generate",
            calls=calls,
            request=request,
            notices=notices,
            estimate=estimate(name, request, calls=len(calls), chat=state is not None),
        )

    def run(self, call: Call, context: RunContext) -> AsyncGenerator[Event, None]:
        tools = call.payload.get("tools")
        model = tools[0]["model"] if tools else call.payload["model"]
        return run(call, context, self._transport, PRICES.get(undated(model)))

    async def aclose(self) -> None:
        await self._transport.aclose()


def _chat(options: Any) -> turns.Chat:
    """The settings for conversations. Raises `InvalidInput`."""
    store = options.get("store")
    if store is not None and not isinstance(store, bool):
        raise InvalidInput(f"store={store!r} must be True or False")
    for name in ("chat_model", "instructions"):
        value = options.get(name)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise InvalidInput(f"{name}={value!r} must be a text that is not empty")
    return turns.Chat(
        model=options.get("chat_model") or CHAT_MODEL,
        store=store,
        continue_by=turns.checked_way(options.get("continue_by"), store),
        instructions=options.get("instructions"),
    )
