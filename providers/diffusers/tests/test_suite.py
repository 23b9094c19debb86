"""The plug-in keeps the contract: the compliance suite over every known repository, run on a tiny model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from diptych_diffusers import DiffusersProvider
from diptych_diffusers.families import family, known

from diptych.testing import ProviderSuite

from . import tiny

PLACE = tempfile.TemporaryDirectory()
MADE = tuple(
    f"diffusers/{tiny.build(name, Path(PLACE.name) / name)}" for name in ("flux-undistilled", "sd")
)


class TestDiffusers(ProviderSuite):
    provider = DiffusersProvider
    unknown_model = "acme/paint-1"
    models: ClassVar[tuple[str, ...]] = (
        *MADE,
        *(
            f"diffusers/{name}"
            for name, row in known().items()
            # Those that draw after a control image alone have no bare request.
            if not family(row.family).needs_control
        ),
    )
    settings: ClassVar[dict[str, str]] = {"device": "cpu"}
    picture_size = (64, 64)
    examples = 2  # of each of some forty repositories
    run_models = MADE
