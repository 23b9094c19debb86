"""Local diffusion models, for diptych."""

from .provider import DiffusersProvider

__all__ = ["DiffusersProvider"]
