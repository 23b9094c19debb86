"""For authors of plug-ins: the compliance suite, cassette scrubbing and loopback peers.

    from diptych.testing import ProviderSuite

    class TestStripes(ProviderSuite):
        provider = StripesProvider

`ProviderSuite` needs `pip install 'diptych[testing]'`. `cassettes` keeps keys out of recordings,
`peers` are servers that speak the wire formats of OpenAI and fal.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .suite import ProviderSuite as ProviderSuite

__all__ = ["ProviderSuite"]


def __getattr__(name: str) -> object:
    if name != "ProviderSuite":
        raise AttributeError(f"module 'diptych.testing' has no attribute {name!r}")
    # The peers are used without pytest and hypothesis, so the suite loads when it is asked for.
    from .suite import ProviderSuite

    return ProviderSuite
