"""Autoregressive image models of this machine, for diptych: Emu3, Janus-Pro, VAR, MAR, LlamaGen."""

from .provider import AutoregressiveProvider

__all__ = ["AutoregressiveProvider"]
