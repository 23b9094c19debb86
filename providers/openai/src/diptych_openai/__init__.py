"""OpenAI's image models for diptych: the Images API, and conversations on the Responses API."""

from __future__ import annotations

from .provider import OpenAIProvider

__all__ = ["OpenAIProvider"]
