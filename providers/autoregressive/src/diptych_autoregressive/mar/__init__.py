"""MAR: masked autoregression with a diffusion head, class to image. `model` holds the networks."""

from .family import FAMILY

__all__ = ["FAMILY"]
