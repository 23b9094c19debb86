"""The cards against the installed SDK, so that drift shows, and what the core makes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, get_args

import pytest
from diptych_openai.cards import FAMILIES, family

from diptych.errors import InvalidInput, RetiredModel, UnsupportedOption
from diptych.planner import make_plan
from diptych.request import Request

openai = pytest.importorskip("openai")

TODAY = date(2026, 11, 23)


def literals(annotation: Any) -> set[str]:
    """Every string that a type annotation names, however deep."""
    found: set[str] = set()
    for each in get_args(annotation):
        found |= {each} if isinstance(each, str) else literals(each)
    return found


def parameters(name: str) -> dict[str, Any]:
    """The types of the parameters of a request, as the SDK has them."""
    from typing import get_type_hints

    from openai.types import image_edit_params, image_generate_params

    base = {
        "generate": image_generate_params.ImageGenerateParamsBase,
        "edit": image_edit_params.ImageEditParamsBase,
    }[name]
    return get_type_hints(base)


def test_every_model_of_the_sdk_has_a_card() -> None:
    from openai.types import ImageModel
    from openai.types.responses.tool import ImageGeneration

    named = literals(ImageModel) | literals(ImageGeneration.model_fields["model"].annotation)
    assert {name for name in named if family(name) is None} == set()


def test_qualities_formats_and_backgrounds_are_those_of_the_sdk() -> None:
    newest = FAMILIES["gpt-image-2.6-sunburst"]
    sdk = parameters("generate")
    of_dall_e = {"standard", "hd"}
    assert set(newest.qualities) == literals(sdk["quality"]) - of_dall_e
    assert set(newest.formats) == literals(sdk["output_format"])


@pytest.mark.parametrize("name", ["generate", "edit"])
def test_every_parameter_of_the_sdk_is_an_option_or_an_extra(name: str) -> None:
    from diptych_openai import extras

    options = {"size", "quality", "background", "output_format"}
    handled = options | set(extras._OURS) | set(extras._LEGACY) | set(extras._RULES)
    assert set(parameters(name)) - handled == set()


def test_every_field_of_the_image_tool_is_an_option_or_an_extra() -> None:
    from diptych_openai import extras
    from openai.types.responses.tool import ImageGeneration

    options = {"type", "size", "quality", "background", "output_format"}
    handled = options | set(extras._OURS) | set(extras._RULES)
    assert set(ImageGeneration.model_fields) - handled == set()


@pytest.mark.parametrize(
    ("model", "shutdown", "successor"),
    [
        ("dall-e-2", date(2026, 5, 12), "openai/gpt-image-2.6-sunburst"),
        ("dall-e-3", date(2026, 5, 12), "openai/gpt-image-2.6-sunburst"),
        ("gpt-image-1", date(2026, 10, 23), "openai/gpt-image-2.5-sunburst"),
        ("gpt-4o-image", date(2026, 10, 23), "openai/gpt-image-2.6-sunburst"),
        ("gpt-4o image", date(2026, 10, 23), "openai/gpt-image-2.6-sunburst"),
    ],
)
def test_retired_models_say_when_and_what_instead(
    bench: Callable[..., Any], model: str, shutdown: date, successor: str
) -> None:
    provider = bench().provider
    with pytest.raises(RetiredModel) as caught:
        make_plan(provider, provider.card(model), Request.build("a fox"), today=TODAY)
    assert (caught.value.shutdown, caught.value.successor) == (shutdown, successor)
    live = provider.card(successor.removeprefix("openai/"))
    assert live.known
    assert live.lifecycle.shutdown is None


@pytest.mark.parametrize(
    "model",
    ["gpt-image-1.5", "gpt-image-1.5-2025-12-16", "gpt-image-1-mini", "chatgpt-image-latest"],
)
def test_models_that_stop_in_december_warn_until_then(
    bench: Callable[..., Any], model: str
) -> None:
    provider = bench().provider
    card, request = provider.card(model), Request.build("a fox")
    plan = make_plan(provider, card, request, today=date(2026, 11, 30))
    assert any(each.kind == "lifecycle" and "2026-12-01" in each.message for each in plan.notices)
    with pytest.raises(RetiredModel):
        make_plan(provider, card, request, today=date(2026, 12, 1))


def test_a_snapshot_has_the_facts_of_its_family_and_keeps_its_name(
    bench: Callable[..., Any],
) -> None:
    made = bench().plan("gpt-image-2.5-flare-2026-09-08", quality="max")
    assert made.calls[0].payload["model"] == "gpt-image-2.5-flare-2026-09-08"
    with pytest.raises(InvalidInput, match="quality"):
        bench().plan("gpt-image-2-2026-04-21", quality="max")


def test_an_unknown_model_is_allowed_and_noticed(bench: Callable[..., Any]) -> None:
    made = bench().plan("gpt-image-9", quality="ultra", size="640x480")
    assert made.calls[0].payload["quality"] == "ultra"
    assert made.calls[0].payload["size"] == "640x480"
    assert any(each.kind == "unverified" and each.option == "model" for each in made.notices)


def test_an_unknown_model_of_openai_still_has_no_seed(bench: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedOption, match="no seed"):
        bench().plan("gpt-image-9", seed=1)


def test_another_server_gets_the_names_that_such_servers_use(bench: Callable[..., Any]) -> None:
    made = bench(base_url="http://127.0.0.1:9/v1").plan(
        "qwen-image", n=2, seed=7, steps=20, guidance=4.5, negative_prompt="fog"
    )
    first, second = (call.payload for call in made.calls)
    assert {**first, "seed": 8} == second
    assert (first["seed"], first["num_inference_steps"]) == (7, 20)
    assert (first["guidance_scale"], first["negative_prompt"]) == (4.5, "fog")
    assert [call.seeds for call in made.calls] == [(7,), (8,)]
