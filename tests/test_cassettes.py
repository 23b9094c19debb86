"""Recordings of both plug-ins with pytest-recording: synthetic ones of the peers, live ones of the services.

The synthetic ones are in the repository and are recorded anew, without any key, by

    pytest tests/test_cassettes.py -m synthetic --record-mode=rewrite

and the live ones by whoever has keys, who then pays for two small pictures:

    OPENAI_API_KEY=... FAL_KEY=... pytest tests/test_cassettes.py -m live --record-mode=rewrite
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from diptych import ImageClient
from diptych.testing.cassettes import scrubbed
from diptych.testing.peers import FalPeer, OpenAIPeer

FOLDER = Path(__file__).parent / "cassettes" / "test_cassettes"
CANARY = "sk-canary-of-the-cassettes"
ADDRESS = "127.0.0.1:9"
"""Stands in the synthetic cassettes for the peer's address; nobody listens there."""

PEERS = {"openai": OpenAIPeer, "fal": FalPeer}
MODELS = {"openai": "openai/gpt-image-2", "fal": "fal/flux/schnell"}
KEYS = {"openai": "OPENAI_API_KEY", "fal": "FAL_KEY"}


@pytest.fixture(scope="module", params=PEERS)
def provider(request):
    return request.param


@pytest.fixture(scope="module")
def peer(provider, request):
    """The peer, while synthetic cassettes are recorded; else None."""
    if request.config.getoption("--record-mode") in (None, "none"):
        yield None
        return
    with PEERS[provider](key=CANARY) as running:
        yield running


@pytest.fixture(scope="module")
def vcr_config(request, peer):
    if "live" in (request.config.getoption("-m") or ""):
        return scrubbed("live", secrets=[os.environ.get(name) for name in KEYS.values()])
    instead = {} if peer is None else {peer.origin.removeprefix("http://"): ADDRESS}
    return scrubbed("synthetic", secrets=[CANARY], instead=instead)


@contextmanager
def synthetic(provider, peer):
    url = f"http://{ADDRESS}" if peer is None else peer.origin
    url += "/v1" if provider == "openai" else ""
    with ImageClient(MODELS[provider], api_key=CANARY, base_url=url) as client:
        yield client


@pytest.mark.synthetic
@pytest.mark.vcr
def test_a_picture_is_made(provider, peer):
    with synthetic(provider, peer) as client:
        result = client.generate("a fox", size="1024x1024")
    assert result.image.size == (1024, 1024)
    result.image.verify()
    assert result.cost.source == {"openai": "computed", "fal": "estimated"}[provider]


@pytest.mark.synthetic
@pytest.mark.vcr
def test_a_conversation_goes_on(provider, peer):
    with synthetic(provider, peer) as client:
        chat = client.conversation()
        chat.send("Generate a fox.")
        plan = chat.send("Make it a raccoon.").plan
    assert plan.mode == {"openai": "continue", "fal": "instruct"}[provider]
    assert len(chat.turns) == 2


@pytest.mark.live
@pytest.mark.vcr
def test_a_picture_of_the_service(provider, request):
    mode = request.config.getoption("--record-mode")
    recorded = FOLDER / f"{request.node.name}.yaml"
    if mode in (None, "none") and not recorded.exists():
        pytest.skip("nobody has recorded it from the live service yet; see the head of this file")
    if mode not in (None, "none") and not os.environ.get(KEYS[provider]):
        pytest.skip(f"recording needs {KEYS[provider]}")
    key = os.environ.get(KEYS[provider], CANARY)
    with ImageClient(MODELS[provider], api_key=key) as client:
        result = client.generate("a fox")
    result.image.verify()
