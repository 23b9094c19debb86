"""Addresses that cannot be used are refused when a client is made."""

from __future__ import annotations

import pytest

from diptych import ImageClient
from diptych.errors import ConfigurationError

MODELS = ("fal/flux/dev", "openai/gpt-image-2")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "ftp://a.b",
        "https://",
        "https://queue.fal.run:99999",
        "http://127.0.0.1:abc",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:0",
        "http://999.1.1.1:80",
        "http://[::1",
        "http://[nonsense]:80",
        "http://a b.example",
        "http://exa\nmple.com",
        "http://a..b.example",
        "http://\N{SNOWMAN}.a..b",
        "http://" + 64 * "a" + ".example",
        8000,
    ],
)
def test_an_address_that_cannot_be_used_is_told_at_once(model, url):
    with pytest.raises(ConfigurationError, match="base_url="):
        ImageClient(model, api_key="a-key-of-mine", base_url=url)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "http://127.0.0.1:65535/v1/",
        "http://[::1]:80",
        "http://my_server:8000",
        "HTTPS://Gateway.example./v1",
        "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
    ],
)
def test_an_address_that_can_be_used_is_taken(model, url):
    with ImageClient(model, api_key="a-key-of-mine", base_url=url) as client:
        client.plan("a fox")


def test_a_password_in_an_address_is_not_repeated():
    url = "http://me:the-password@127.0.0.1:99999"
    with pytest.raises(ConfigurationError) as caught:
        ImageClient("openai/gpt-image-2", api_key="a-key-of-mine", base_url=url)
    assert "the-password" not in str(caught.value)


def test_an_azure_endpoint_is_checked_too():
    with pytest.raises(ConfigurationError, match="azure_endpoint="):
        ImageClient(
            "openai/gpt-image-2",
            api_key="a-key-of-mine",
            azure_endpoint="https://r.openai.azure.com:99999",
            api_version="2025-04-01-preview",
        )
