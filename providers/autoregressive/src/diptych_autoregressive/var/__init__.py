"""VAR: next-scale prediction, class to image. `model` holds the transformer and its sampling."""

from .family import FAMILY

__all__ = ["FAMILY"]
