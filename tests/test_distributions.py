"""The six distributions as they are published: the licence in every wheel, READMEs that read elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent for path in (ROOT / "providers").glob("*/pyproject.toml"))
LINK = re.compile(r"\]\((?!https?://)[^)]*\)")

each = pytest.mark.parametrize("folder", [ROOT, *PLUGINS], ids=lambda path: path.name)


def test_all_six_are_looked_at():
    assert [path.name for path in PLUGINS] == [
        "autoregressive",
        "diffusers",
        "fal",
        "openai",
        "pocket",
    ]


@each
def test_the_licence_comes_along(folder):
    core = ProjectMetadata(str(folder), PluginManager()).core
    assert core.license_files == ["LICENSE"]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_wheel_holds_it(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "providers" / "openai", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        (name,) = (name for name in held.namelist() if name.endswith("licenses/LICENSE"))
        assert held.read(name) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_readme_links_to_nothing_beside_it(folder):
    """PyPI shows the README alone: a relative link or picture is broken there."""
    assert LINK.findall((folder / "README.md").read_text(encoding="utf-8")) == []
