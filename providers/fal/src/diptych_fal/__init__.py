"""fal for diptych: `ImageClient("fal/flux-pro/v1.1")`."""

from __future__ import annotations

from .provider import FalProvider
from .webhook import verify_webhook

__all__ = ["FalProvider", "verify_webhook"]
