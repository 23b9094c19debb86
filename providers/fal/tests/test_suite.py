"""fal's plug-in keeps the contract: the compliance suite over every endpoint, run on the loopback peer."""

from __future__ import annotations

from diptych_fal import FalProvider

from diptych.testing import ProviderSuite
from diptych.testing.peers import FalPeer


class TestFal(ProviderSuite):
    provider = FalProvider
    unknown_model = "acme/paint-1"
    examples = 2  # of each of some hundred endpoints
    peer = FalPeer
    run_models = (
        "fal/flux/dev",
        "fal/flux-pro/v1.1",
        "fal/flux-pro/kontext",
        "fal/stable-diffusion-v35-large",
        "fal/acme/paint-1",
    )
