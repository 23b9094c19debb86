"""The table of endpoints: its names, its families, and every row against fal's published types."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from diptych_fal.endpoints import Endpoint, endpoint, known

import diptych
from diptych import ImageClient
from diptych.cards import EditMode, Paradigm
from diptych.errors import RetiredModel, UnknownModel

LISTED = [row for row in known() if not row.retired]
PUBLISHED = [row for row in LISTED if not row.unlisted]
WRITTEN = {"object": "ImageSize", "text": '"1024x1024"', "aspect": '"1:1"'}
FORMATS = ("png", "jpeg", "webp")


def ids(row: Endpoint) -> str:
    return row.name


@cache
def _types(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())["endpoints"])


def _published(shared: Path, row: Endpoint) -> dict[str, Any]:
    return dict(_types(shared / "reference" / "fal-endpoints.json")[row.id])


@pytest.mark.parametrize("row", PUBLISHED, ids=ids)
def test_every_input_of_a_row_is_published(row: Endpoint, shared: Path) -> None:
    inputs = _published(shared, row)["input"]
    named = {*row.fields.values(), row.size.field, row.size.tier_field, row.image, row.images}
    named |= {row.strength.field, row.mask.field, row.loras, *row.expand.values(), *row.extra}
    named |= {row.references.field, row.references.weight}
    if row.controls == "flux":
        named |= {"easycontrols", "controlnets", "controlnet_unions"}
    elif row.controls == "single":
        named |= {"controlnet"}
    if row.prompt:
        named |= {"prompt"}
    assert named - {""} <= set(inputs)


@pytest.mark.parametrize("row", PUBLISHED, ids=ids)
def test_every_input_that_fal_requires_is_provided(row: Endpoint, shared: Path) -> None:
    inputs = _published(shared, row)["input"]
    required = {name for name, facts in inputs.items() if facts.get("required")}
    provided = {"prompt"} if row.prompt else set()
    if row.takes:
        provided |= {row.image, row.images, *row.expand.values()}
    if EditMode.INPAINT in row.takes:
        provided.add(row.mask.field)
    if row.size.required:
        provided.add(row.size.field)
    assert required <= provided


@pytest.mark.parametrize("row", PUBLISHED, ids=ids)
def test_every_choice_of_a_row_is_in_the_published_enum(row: Endpoint, shared: Path) -> None:
    inputs = _published(shared, row)["input"]
    if row.formats:
        kind = inputs[row.fields["format"]]["type"]
        assert {name for name in FORMATS if f'"{name}"' in kind} == set(row.formats)
    for option, choices in row.choices.items():
        assert _enum(inputs[row.fields[option]]["type"]) == set(choices), option
    for option, values in row.values.items():
        assert _enum(inputs[row.fields[option]]["type"]) == set(values.values()), option
    size = row.size
    if size.field:
        kind = inputs[size.field]["type"]
        assert WRITTEN[size.write] in kind
        if size.write != "object":
            shown = _enum(kind) - {"auto", "match_input"}
            fixed = {f"{width}x{height}" for width, height in size.fixed}
            assert shown == (set(size.aspects) if size.write == "aspect" else fixed)
        assert bool(size.auto) == ('"auto"' in kind)
    if size.tier_field:
        assert _enum(inputs[size.tier_field]["type"]) == set(size.tiers.values())


def _enum(kind: str) -> set[str]:
    return set(re.findall(r'"([^"]*)"', kind))


@pytest.mark.parametrize("row", [row for row in PUBLISHED if row.defaults], ids=ids)
def test_defaults_are_fals_own_and_reliable(row: Endpoint, shared: Path) -> None:
    published = _published(shared, row)
    assert not published.get("defaults_unreliable")
    for option, value in row.defaults.items():
        assert published["input"][row.fields[option]]["default"] == value, option


@pytest.mark.parametrize("row", PUBLISHED, ids=ids)
def test_an_unlisted_option_is_one_that_fal_does_not_publish(row: Endpoint, shared: Path) -> None:
    """The other way round: nothing that the endpoint can do is forgotten."""
    inputs = set(_published(shared, row)["input"])
    usual = {
        "n": "num_images",
        "seed": "seed",
        "negative_prompt": "negative_prompt",
        "guidance": "guidance_scale",
        "steps": "num_inference_steps",
        "background": "background",
        "format": "output_format",
    }
    forgotten = {
        name for name, field in usual.items() if field in inputs and name not in row.fields
    }
    assert not forgotten
    missed = inputs - row.extra - {"prompt", *row.fields.values(), *row.expand.values()}
    missed -= {row.size.field, row.size.tier_field, row.image, row.images, row.loras}
    missed -= {row.strength.field, row.mask.field, row.references.field, row.references.weight}
    assert not missed


@pytest.mark.parametrize("row", [row for row in PUBLISHED if row.price], ids=ids)
def test_prices_are_those_of_the_list(row: Endpoint, shared: Path) -> None:
    text = (shared / "reference" / "litellm-image-prices.json").read_text()
    rows = {
        name.removeprefix("fal_ai/"): facts
        for name, facts in json.loads(text)["image"].items()
        if name.startswith("fal_ai/")
    }
    mine = rows[row.id]
    if "per_megapixel" in row.price:
        rate = mine["output_cost_per_pixel"] * 1024 * 1024
        assert rate == pytest.approx(float(row.price["per_megapixel"]))
        return
    stated = [mine["output_cost_per_image"]]
    stated += [value for name, value in mine.items() if name.startswith("output_cost_per_image_")]
    keyed = [facts for name, facts in rows.items() if name.endswith(f"/{row.id}") and "-x-" in name]
    stated += [facts["output_cost_per_image"] for facts in keyed]
    figures = row.price.get("at", {"": row.price.get("per_image")}).values()
    each = {
        float(value)
        for figure in figures
        for value in ([figure] if isinstance(figure, str) else figure)
    }
    assert each <= set(stated)
    assert {min(each), max(each)} <= {min(stated), max(stated)} | (
        {min(stated)} if len(each) == 1 else set()
    )


def test_siblings_exist_and_edit_in_the_mode_they_are_named_for() -> None:
    for row in LISTED:
        for mode, other in row.edits.items():
            assert mode in endpoint(other).takes, (row.id, mode)


@pytest.mark.parametrize("row", LISTED, ids=ids)
def test_a_card_is_complete_plain_data(row: Endpoint) -> None:
    card = diptych.describe(f"fal/{row.name}")
    assert card.ref == f"fal/{row.name}"
    assert card.source
    assert card.resumable
    json.dumps(card.to_dict())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("flux-pro/v1.1", "fal-ai/flux-pro/v1.1"),
        ("fal-ai/flux-pro/v1.1", "fal-ai/flux-pro/v1.1"),
        ("openai/gpt-image-2", "openai/gpt-image-2"),
        ("ideogram/v3", "fal-ai/ideogram/v3"),
        ("ideogram/v4.5", "ideogram/v4.5"),
        ("bytedance/seedream/v4/edit", "fal-ai/bytedance/seedream/v4/edit"),
        ("bytedance/seedream/v5/pro/edit", "bytedance/seedream/v5/pro/edit"),
        ("google/nano-banana-9", "google/nano-banana-9"),
        ("sana", "fal-ai/sana"),
        ("flux-9/ultra", "fal-ai/flux-9/ultra"),
        ("bytedance/seedream/v5/lite/edit", "bytedance/seedream/v5/lite/edit"),
        ("fal-ai/bytedance/seedream/v5/lite/edit", "fal-ai/bytedance/seedream/v5/lite/edit"),
        ("fal-ai/google/x", "fal-ai/google/x"),
    ],
)
def test_a_model_is_found_by_its_short_and_its_full_name(written: str, meant: str) -> None:
    row = endpoint(written)
    assert row.id == meant
    assert endpoint(row.name).id == meant


@pytest.mark.parametrize("nonsense", ["a b", "x?y=1", "../secrets", "a//b", "flux/dev/", "ü/x"])
def test_what_cannot_be_an_endpoint_is_told(nonsense: str) -> None:
    with pytest.raises(UnknownModel, match="endpoint"):
        endpoint(nonsense)


@pytest.mark.parametrize(
    ("model", "successor"),
    [("fal/imagen4/preview", "fal/nano-banana-2"), ("fal/flux-pro/new", "fal/flux-pro/v1.1")],
)
def test_an_endpoint_that_is_gone_names_its_successor(model: str, successor: str) -> None:
    client = ImageClient(model, api_key="k")
    with pytest.raises(RetiredModel, match=successor) as caught:
        client.plan("a fox")
    assert caught.value.successor == successor


def test_every_row_is_found_by_the_name_it_gives_itself() -> None:
    for row in known():
        assert endpoint(row.name) == row


def test_every_successor_is_alive() -> None:
    gone = [row for row in known() if row.retired]
    assert gone
    for row in gone:
        assert not endpoint(row.retired["successor"]).retired, row.id


@pytest.mark.parametrize(
    ("model", "paradigm"),
    [
        ("fal/flux/dev", Paradigm.DIFFUSION),
        ("fal/openai/gpt-image-2", Paradigm.AUTOREGRESSIVE),
        ("fal/nano-banana-2/edit", Paradigm.AUTOREGRESSIVE),
        ("fal/hunyuan-image/v3/text-to-image", Paradigm.HYBRID),
        ("fal/recraft/v3/text-to-image", Paradigm.UNKNOWN),
    ],
)
def test_the_paradigm_is_that_of_the_model_behind_the_endpoint(
    model: str, paradigm: Paradigm
) -> None:
    assert diptych.describe(model).paradigm == paradigm
