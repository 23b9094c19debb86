"""The pocket models: two small image models, one per paradigm, that ship with diptych.

Each function returns a folder that stock classes load: `diffusers.FluxPipeline` the one, `transformers.Emu3ForConditionalGeneration`
the other. `diptych.json` beside the weights holds checksums, defaults, the words the model knows, and how well it was measured to do.
"""

from pathlib import Path

__all__ = ["autoregressive", "diffusion"]

_HERE = Path(__file__).parent


def diffusion() -> Path:
    """The folder of `diffusers/pocket`."""
    return _HERE / "diffusion"


def autoregressive() -> Path:
    """The folder of `autoregressive/pocket`."""
    return _HERE / "autoregressive"
