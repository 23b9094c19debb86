"""A model that reads a control image, made of a loaded FLUX.1 and a control LoRA.

diffusers puts a control LoRA into the transformer itself, whose input layer grows and whose norms of
queries and keys are overwritten. Here a second transformer gets all of that. It shares every other
weight with the first, which stays as it is for whoever draws with it meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .adapters import Adapters
from .cards import Described
from .stock import Stock

__all__ = ["Twin"]

_INPUT = "x_embedder.weight"
_NORMS = ("norm_q.", "norm_k.", "norm_added_q.", "norm_added_k.")
"""Layers that a control LoRA replaces instead of adding to them."""


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """The pipelines over the second transformer, and the adapters in it, the control LoRA among them."""

    stock: Stock
    adapters: Adapters

    @classmethod
    def of(cls, stock: Stock, described: Described, path: str) -> Twin:
        """The twin of `stock` with the control LoRA at `path`, which is loaded by its `adapters`.

        `described` is the model as it is run with one.
        """
        transformer = _doubled(stock.parts["transformer"])
        parts = {**stock.parts, "transformer": transformer}
        own = Stock(parts, described, stock.device, stock.dtype)
        worn = {"transformer": transformer}
        return cls(own, Adapters(worn, own.any_pipeline, described.family.name, path))


def _doubled(transformer: Any) -> Any:
    """A transformer with the weights of another that reads twice the channels, the new ones at zero."""
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    channels = transformer.config.in_channels
    with torch.device("meta"):
        twin = type(transformer)(
            **config | {"in_channels": 2 * channels, "out_channels": transformer.out_channels}
        )
    weights = {
        name.replace(".base_layer.", "."): weight for name, weight in transformer.named_parameters()
    }
    state = {name: weights[name] for name in twin.state_dict()}
    narrow = state[_INPUT]
    state[_INPUT] = nn.Parameter(torch.cat([narrow, torch.zeros_like(narrow)], dim=1))
    for name, weight in state.items():
        if any(each in name for each in _NORMS):
            state[name] = nn.Parameter(weight.clone())
    twin.load_state_dict(state, assign=True)
    return twin.eval()
