"""The table of families and tasks in docs/diffusers-families.md: made here by trying every cell.

DIPTYCH_WRITE_DOCS=1 writes the page instead of comparing it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from diptych_diffusers.control import canny
from diptych_diffusers.families import Family, families, known

from diptych import Control, ImageClient, LoRA, Mask, Reference, RequestError
from diptych.result import Result

from . import tiny
from .conftest import Checkpoints, picture

PAGE = Path(__file__).parents[3] / "docs" / "diffusers-families.md"
PHOTO = picture(64, 64)
EDGES = Control("canny", canny(PHOTO))
HALF = Mask.box((16, 16, 48, 48), size=(64, 64))
WORDS = "a cat in the snow"

TRIES: dict[str, Callable[[ImageClient, str], Result]] = {
    "text to image": lambda model, _: model.generate(WORDS, seed=1),
    "img2img": lambda model, _: model.edit(PHOTO, WORDS, mode="img2img", change=0.5, seed=1),
    "inpaint": lambda model, _: model.edit(PHOTO, WORDS, mode="inpaint", mask=HALF, seed=1),
    "outpaint": lambda model, _: model.edit(PHOTO, WORDS, expand=16, seed=1),
    "instruct": lambda model, _: model.edit(PHOTO, "make it blue", mode="instruct", seed=1),
    "invert": lambda model, _: model.edit(
        PHOTO, WORDS, mode="invert", source_prompt="a dog in the snow", seed=1
    ),
    "control image": lambda model, net: model.generate(
        WORDS, seed=1, controls=[Control("canny", EDGES.image, path=net or None)]
    ),
}
GOOD = ("own", "stock", "yes", "IP-Adapter")
PLAIN = ("text to image", "img2img", "instruct", "inpaint", "control image")
"""What LoRAs and references are tried with: the first that the family has."""


@pytest.fixture(scope="module")
def cells(
    checkpoint: Checkpoints,
    tmp_path_factory: pytest.TempPathFactory,
    small: None,
) -> dict[str, dict[str, str]]:
    """What each task of each family came to: "own", "stock", or why it is refused."""
    found: dict[str, dict[str, str]] = {}
    cache = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(cache))
        for kind in families():
            if not kind.known:
                continue
            name, net = kind.name, ""
            if name in tiny.REPOSITORIES:
                repository, name = tiny.download(kind.name, cache), tiny.REPOSITORIES[name][1]
            folder = checkpoint(name)
            if kind.controlnet:
                net = str(tiny.controlnet(kind.controlnet, tmp_path_factory.mktemp("net"), folder))
            place = repository if kind.name in tiny.REPOSITORIES else folder
            with ImageClient(f"diffusers/{place}", device="cpu", timeout=600) as model:
                files = tmp_path_factory.mktemp("adapters")
                beside = _beside(kind, files, folder)
                results = {task: _tried(model, task, net) for task in TRIES}
                tried = {task: _cell(task, result) for task, result in results.items()}
                able = next(task for task in PLAIN if tried[task] in ("own", "stock"))
                for column, options in beside.items():
                    changed = _tried(_With(model, options), able, net)
                    tried[column] = _told(results[able], changed)
                if tried["references"] == "yes":
                    read = "IP-Adapter" if kind.ip_adapter else str(kind.references)
                    tried["references"] = read
                for task, why in kind.cannot.items():
                    tried["control image" if task == "control" else task] = why
                found[kind.name] = tried
    return found


def _beside(kind: Family, files: Path, model: Path) -> dict[str, dict[str, Any]]:
    """What is tried beside a task, by its column; the files it needs are written to `files`."""
    style = str(tiny.lora(files / "lora", tiny.attention(model)))
    references: dict[str, Any] = {"references": [Reference(PHOTO)]}
    if kind.ip_adapter:
        references["extra"] = {"ip_adapter": str(tiny.ip_adapter(files, model))}
    return {"LoRA": {"adapters": [LoRA(style, scale=2)]}, "references": references}


class _With:
    """A client with some options in every call."""

    def __init__(self, model: ImageClient, options: dict[str, Any]) -> None:
        self._model, self._options = model, options

    def __getattr__(self, name: str) -> Any:
        if name in ("generate", "edit"):
            return partial(getattr(self._model, name), **self._options)
        return getattr(self._model, name)


def _told(plain: Result | str, changed: Result | str) -> str:
    """Whether an option acts, or why it is refused."""
    if isinstance(changed, str):
        return changed
    assert isinstance(plain, Result)
    assert changed.image.bytes != plain.image.bytes, plain.plan.model
    return "yes"


def _tried(model: Any, task: str, net: str) -> Result | str:
    """What a task of a model draws, or why it is refused."""
    try:
        return TRIES[task](model, net)
    except RequestError as error:
        return str(error).replace(model.describe().ref, "it").partition(";")[0]


def _cell(task: str, result: Result | str) -> str:
    if isinstance(result, str):
        return result
    assert result.image.size == ((96, 96) if task == "outpaint" else (64, 64))
    return "own" if result.plan.calls[0].method.endswith("loop") else "stock"


def test_the_page_tells_what_the_families_do(cells: dict[str, dict[str, str]]) -> None:
    page = _page(cells)
    if os.environ.get("DIPTYCH_WRITE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page


def _page(cells: dict[str, dict[str, str]]) -> str:
    reasons: dict[str, int] = {}

    def cell(value: str) -> str:
        if value in GOOD or value.isdigit():
            return value
        return f"no ({reasons.setdefault(value, len(reasons) + 1)})"

    columns = [*TRIES, "LoRA", "references"]
    head = ["family", *columns]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for kind in sorted(families(), key=lambda each: each.title):
        if kind.known:
            values = [cell(cells[kind.name][each]) for each in columns]
            lines.append("| " + " | ".join([kind.title, *values]) + " |")
    notes = [f"{number}. {reason}." for reason, number in reasons.items()]
    hub = [f"* `diffusers/{name}`" for name in sorted(known())]
    refused = [f"* `{name}`: {reason}." for name, reason in sorted(_refused().items())]
    return INTRODUCTION.format(
        table="\n".join(lines),
        notes="\n".join(notes),
        refused="\n".join(refused),
        hub="\n".join(hub),
    )


def _refused() -> dict[str, str]:
    from diptych_diffusers.families import _rows

    rows: dict[str, str] = {str(name): str(why) for name, why in _rows()["refused"].items()}
    return rows


INTRODUCTION = """# Families of diffusion models, and what each can do

This page is written by `providers/diffusers/tests/test_table.py`, which tries every cell of the table on a
tiny checkpoint with random weights of the same classes, through `ImageClient`.

* **own**: drawn by a denoising loop of diptych's own. Requests that arrive together share passes, previews
  show the clean picture.
* **stock**: drawn by diffusers' pipeline, with everything around it put right: sizes, modes of pictures,
  masks, seeds, steps and guidance mean what they mean everywhere. Pictures of one request are drawn one
  after the other, so that each equals the one that its seed gives alone.
* **no**: refused before anything is loaded, for the reason with that number.

Whatever the family: with a mask, pixels outside it come back unchanged; `expand` is inpainting of a padded
picture; a family without `inpaint` takes a mask when it has `img2img` or `instruct`, and the original is put
back outside the mask.

{table}

Reasons:

{notes}

A pipeline that no row describes is run as text to image, with a notice, when diffusers itself exports it and
the classes of its parts are known.

## Adapters, control images, references

* `adapters=[LoRA(path, scale)]`: a safetensors file, a folder or a repository of the Hub (`org/name`,
  `org/name@revision`, `org/name/file.safetensors`); several act together. One whose layers do not fit, or whose
  metadata name another base model, is refused. It is switched off again without a trace: the next picture is
  bit for bit what it was before. A distilled one may need another sampler: `extra={{"scheduler": "lcm"}}` (Stable
  Diffusion 1.x, 2.x and XL). Control LoRAs are not adapters here: see below.
* `controls=[Control(kind, image, strength, start, end, path=...)]`: `image` is a finished control image, never
  turned into one in silence; a photograph as an edge map is refused. `diptych_diffusers.control.canny(image)`
  makes an edge map. `path` names the ControlNet; FLUX.1 Canny and Depth need none.
* A control LoRA makes FLUX.1 dev read a control image: `controls=[Control("canny", image,
  path="black-forest-labs/FLUX.1-Canny-dev-lora")]`. Its file says what it is, by an input layer of twice the
  width. `strength` is the scale of the LoRA; its norms of queries and keys have none and act whole. It acts
  throughout (`start` and `end` are refused), alone (one control image), and with other LoRAs. Steps and guidance
  are those of FLUX.1 Canny and Depth unless given, and a negative prompt is refused, as for them. The model
  itself is not touched: others draw with it meanwhile as ever.
* ControlNets of Z-Image borrow layers of the model. `path` names a folder of diffusers or a published file, as
  `"alibaba-pai/Z-Image-Turbo-Fun-Controlnet-Union"` holds one; the lite editions do not say which layers they
  steer, and need a folder whose `config.json` does. With a mask, 2.0 and later alone, and without `change`.
* `edit(image, prompt, mode="control")` takes the edges of the picture itself, for checkpoints that were trained
  on them (`"control": "canny"` in `diptych.json` says so of a folder of one's own).
* `references=[Reference(image, weight)]`: read beside the picture by the families with a number above. Others need
  `extra={{"ip_adapter": "org/name/file.safetensors"}}`, perhaps with `"image_encoder"`, or for FLUX.1
  `extra={{"redux": "org/name"}}`.

## Refused as a whole

{refused}

## Repositories whose cards are known before they are downloaded

{hub}
"""


def test_every_reason_is_a_sentence_about_the_model(cells: dict[str, dict[str, str]]) -> None:
    for tasks in cells.values():
        for value in tasks.values():
            assert value in GOOD or value.isdigit() or re.search(r"\w+ \w+ \w+", value)
            assert "/tmp" not in value
