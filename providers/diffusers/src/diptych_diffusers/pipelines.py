"""diffusers' pipelines over parts that are loaded already.

Never by `from_pipe`, which turns shared weights into float32 and shares the scheduler's counters.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from .logs import listening

__all__ = ["arguments_of", "pipeline", "sampler"]

_OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder", "guider", "ocr_guider")


def pipeline(name: str, parts: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """A pipeline of diffusers' class `name`, with a scheduler of its own.

    `settings` are what the checkpoint's index says beside its parts.
    """
    import diffusers

    kind = getattr(diffusers, name)
    wanted = inspect.signature(kind.__init__).parameters
    shared = {**parts, "scheduler": copy.deepcopy(parts["scheduler"])}
    given = {each: shared[each] for each in wanted if each in shared}
    given |= {
        each: value for each, value in settings.items() if each in wanted and each not in given
    }
    given |= {
        each: None
        for each, value in wanted.items()
        if each not in ("self", *given) and (value.default is value.empty or each in _OPTIONAL)
    }
    if "requires_safety_checker" in wanted and given.get("safety_checker") is None:
        given["requires_safety_checker"] = False
    if name == "ZImageOmniPipeline" and given.get("vae") is not None:
        given["vae"] = _OwnType(given["vae"])
    made = kind(**given)
    made.set_progress_bar_config(disable=True)
    return made


class _OwnType:
    """An autoencoder that is given pictures in bfloat16, whatever its own type is."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)

    def encode(self, picture: Any) -> Any:
        return self._vae.encode(picture.to(self._vae.dtype))


_SAMPLERS = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def sampler(name: str, own: Any) -> Any:
    """Another scheduler with the settings of the checkpoint's own."""
    import diffusers

    with listening().around():
        return getattr(diffusers, _SAMPLERS[name]).from_config(own.config)


def arguments_of(name: str) -> frozenset[str]:
    """The arguments of a pipeline that our table does not list."""
    import diffusers

    return frozenset(inspect.signature(getattr(diffusers, name).__call__).parameters)
