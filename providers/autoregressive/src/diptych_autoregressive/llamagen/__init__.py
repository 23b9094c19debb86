"""LlamaGen: next-token prediction by a llama, from a class or a text. `model` holds the transformer."""

from .family import FAMILY

__all__ = ["FAMILY"]
