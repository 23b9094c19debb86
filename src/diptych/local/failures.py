"""What goes wrong in torch and in model libraries, as diptych's errors."""

from __future__ import annotations

from ..errors import DiptychError, Unavailable, VendorFailure

__all__ = ["stand_in", "told"]


def stand_in(error: Exception) -> VendorFailure:
    """What is chained as the cause, so that no exception of a library's gets out."""
    return VendorFailure(f"{type(error).__module__}.{type(error).__qualname__}: {error}")


def told(error: Exception, ref: str, relief: str) -> DiptychError:
    """An error of diptych's for one of torch's or a model library's.

    `ref` is the model that ran, `relief` what the caller can do when its memory does not suffice.
    """
    import torch

    provider = ref.partition("/")[0]
    if isinstance(error, torch.OutOfMemoryError):
        return Unavailable(
            f"{ref} ran out of memory: {error}; {relief}", provider=provider, code="out_of_memory"
        )
    return Unavailable(f"{ref} failed: {type(error).__name__}: {error}", provider=provider)
