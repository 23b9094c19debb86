"""What goes wrong in torch and transformers, as diptych's errors."""

from __future__ import annotations

from diptych.errors import DiptychError, Unavailable, VendorFailure

__all__ = ["stand_in", "told"]


def stand_in(error: Exception) -> VendorFailure:
    """What is chained as the cause, so that no exception of a library's gets out."""
    return VendorFailure(f"{type(error).__module__}.{type(error).__qualname__}: {error}")


def told(error: Exception, ref: str) -> DiptychError:
    """An error of diptych's for one of torch's or transformers'; `ref` is the model that ran."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return Unavailable(
            f"{ref} ran out of memory: {error}; ask for a smaller size or fewer pictures at once",
            provider="autoregressive",
            code="out_of_memory",
        )
    return Unavailable(f"{ref} failed: {type(error).__name__}: {error}", provider="autoregressive")
