"""Muon for the matrices inside the blocks, AdamW for the rest, an average of the weights, and the learning-rate schedule."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz iterations (Jordan et al. 2024), matrices of one shape in one batch.

    Updates are scaled by 0.2 * sqrt(max(rows, columns)) (Liu et al. 2025), so that AdamW's learning rate fits.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(
            list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for (rows, columns), parameters in shapes.items():
                gradients = [parameter.grad for parameter in parameters]
                momenta = [
                    self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                    for parameter in parameters
                ]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                nesterov = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"]))
                updates = list((orthogonal(nesterov) * (0.2 * max(rows, columns) ** 0.5)).unbind())
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(
                    parameters,
                    [u.to(p.dtype) for u, p in zip(updates, parameters, strict=True)],
                    alpha=-group["lr"],
                )


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices (N, rows, columns), roughly."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: torch.Tensor = x.mT if tall else x
    return result


class Training:
    """The optimisers of one model, its averaged weights and its clock."""

    def __init__(
        self, model: nn.Module, lr: float, seconds: float, steps: int | None = None, decay: float = 1.0, average: float = 0.999,
        warm: int = 100, muon: bool = True,
    ) -> None:  # fmt: skip
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        outside = ("embed", "shared", "lm_head", "head.")  # not the matrices of blocks
        inner = [
            p
            for name, p in named
            if muon and p.ndim == 2 and not any(key in name for key in outside)
        ]
        chosen = set(map(id, inner))
        outer = [p for _, p in named if id(p) not in chosen]
        cuda = named[0][1].is_cuda
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=cuda)
        ]
        if inner:
            self.optimizers.append(Muon(inner, lr=lr))
        self.parameters: list[torch.Tensor] = [p for _, p in named]
        self.average = [p.detach().clone() for p in self.parameters]
        self.rate, self.decay, self.keep, self.warm = lr, decay, average, warm
        self.seconds, self.steps, self.step_count, self.begun = seconds, steps, 0, time.monotonic()

    def progress(self) -> float:
        """Share of this run that is done."""
        if self.steps is not None:
            return self.step_count / self.steps
        return (time.monotonic() - self.begun) / self.seconds

    def step(self, loss: torch.Tensor) -> None:
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        left = max(0.0, 1 - self.progress())
        factor = min(
            1.0, (self.step_count + 1) / self.warm, left / self.decay if self.decay else 1.0
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        keep = min(self.keep, 1 - 1 / (1 + self.step_count / 4))
        torch._foreach_lerp_(self.average, self.parameters, 1 - keep)

    def state(self) -> dict[str, Any]:
        return {
            "optimizers": [o.state_dict() for o in self.optimizers],
            "weights": [p.data for p in self.parameters],
            "average": self.average,
        }

    def load(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for parameter, average, weight, kept in zip(
            self.parameters, self.average, state["weights"], state["average"], strict=True
        ):
            parameter.data.copy_(weight)
            average.copy_(kept)
        self.warm = 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, for as long as the context lasts."""
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self.use_average()
        yield
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, trained)

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the averaged weights into the model, for good."""
        torch._foreach_copy_(self.parameters, self.average)
