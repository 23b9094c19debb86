"""OpenAI's plug-in keeps the contract: the compliance suite over every model, run on the loopback peer."""

from __future__ import annotations

from diptych_openai import OpenAIProvider

from diptych.cards import ModelCard
from diptych.testing import ProviderSuite
from diptych.testing.peers import OpenAIPeer


class TestOpenAI(ProviderSuite):
    provider = OpenAIProvider
    unknown_model = "gpt-image-9"
    peer = OpenAIPeer
    run_models = ("openai/gpt-image-2", "openai/gpt-image-1.5")

    @classmethod
    def state(cls, card: ModelCard) -> dict[str, str]:
        return {"response_id": "resp_1"}


class TestContinueByImage(ProviderSuite):
    """Conversations that the service keeps no record of."""

    provider = OpenAIProvider
    models = ("openai/gpt-image-2",)
    settings = {"store": False}  # noqa: RUF012  # a suite is not an instance
    peer = OpenAIPeer

    @classmethod
    def state(cls, card: ModelCard) -> dict[str, str]:
        return {"image_id": "ig_1"}
