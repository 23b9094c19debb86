"""The code in the documentation runs, page by page, from top to bottom, and prints what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("quickstart.md", "editing.md", "errors-and-retries.md", "four-models.md")
BLOCK = re.compile(r"^```python\n(.*?)^```(?:\s+^```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
EXCERPT = re.compile(r"^```(?:python|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert blocks
    names: dict[str, object] = {}
    for code, said in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page, "exec"), names)
        assert not said or printed.getvalue().strip() == said.strip()


def test_the_walk_through_a_plugin_shows_all_of_the_plugin():
    folder = Path(__file__).parent / "plugins" / "webui"
    names = ("diptych_webui.py", "pyproject.toml", "test_webui.py")
    source, *others = (_without_layout((folder / name).read_text()) for name in names)
    code = source[source.index("FIELDS={") :]
    for excerpt in EXCERPT.findall((DOCS / "writing-a-provider.md").read_text()):
        excerpt = _without_layout(excerpt)
        assert any(excerpt in each for each in (source, *others))
        code = code.replace(excerpt, "")
    assert code == "#Planning#Running"


def _without_layout(text):
    """The formatter indents and breaks excerpts in its own way."""
    return re.sub(r"[\s,]+", "", text)


@pytest.mark.parametrize(
    "page", [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target
