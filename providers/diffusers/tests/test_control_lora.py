"""Control LoRAs: FLUX.1 reads a control image with one, and is what it was before without it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diptych_diffusers import loading, provider, speed
from diptych_diffusers.adapters import mended
from diptych_diffusers.control import canny
from diptych_diffusers.memory import Placement
from safetensors.torch import save_file

from diptych import (
    ConfigurationError,
    Control,
    Image,
    ImageClient,
    InvalidInput,
    LoRA,
    Mask,
    Notice,
    Progress,
    Reference,
    UnsupportedOption,
)

from . import tiny
from .conftest import Checkpoints, Clients, picture

PHOTO = picture(64, 64)
EDGES = canny(PHOTO)
HALF = Mask.box((16, 16, 48, 48), size=(64, 64))
BLOCK = "transformer.transformer_blocks.0.attn"
STYLE = {f"{BLOCK}.to_q": (32, 32), "transformer.x_embedder": (16, 32)}

Controls = Callable[..., list[Control]]


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(control_lora(tmp_path_factory.mktemp("control") / "control.safetensors"))


def control_lora(
    file: Path, channels: int = 32, more: Mapping[str, torch.Tensor] | None = None
) -> Path:
    """What the published files are in diffusers' names: pairs with a bias, and norms of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(file.name))
        layers = {f"{BLOCK}.to_q": (32, 32), "transformer.x_embedder": (channels, 32)}
        layers["transformer.proj_out"] = (32, 16)
        state = {}
        for name, (inputs, outputs) in layers.items():
            state[f"{name}.lora_A.weight"] = torch.randn(4, inputs)
            state[f"{name}.lora_B.weight"] = torch.randn(outputs, 4)
            state[f"{name}.lora_B.bias"] = torch.randn(outputs)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            state[f"{BLOCK}.{name}.weight"] = 1 + torch.rand(16)
    save_file(state | dict(more or {}), file)
    return file


@pytest.fixture
def controls(lora: str) -> Controls:
    def make(image: Image = EDGES, **options: Any) -> list[Control]:
        return [Control("canny", image, **{"path": lora} | options)]

    return make


def by_hand(
    name: str, folder: Path, loras: Mapping[str, float], seed: int, **arguments: Any
) -> np.ndarray[Any, Any]:
    """What diffusers' own loader and pipeline draw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's, about layers that the file does not have
        pipe = getattr(diffusers, name).from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        for number, path in enumerate(loras):
            pipe.load_lora_weights(path, adapter_name=f"lora_{number}")
        pipe.set_adapters([f"lora_{number}" for number in range(len(loras))], list(loras.values()))
        made = pipe(
            "a fox",
            num_inference_steps=2,
            guidance_scale=30,
            generator=[torch.Generator().manual_seed(seed)],
            output_type="np",
            **{"width": 64, "height": 64} | arguments,
        )
    levels: np.ndarray[Any, Any] = np.round(made.images[0] * 255).astype(np.uint8)
    return levels


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_it_draws_what_diffusers_draws_with_it(
    strength: float, client: Clients, checkpoint: Checkpoints, lora: str, controls: Controls
) -> None:
    made = client("flux").generate("a fox", seed=3, controls=controls(strength=strength))
    stock = by_hand(
        "FluxControlPipeline",
        checkpoint("flux"),
        {lora: strength},
        3,
        control_image=EDGES.pil().convert("RGB"),
    )
    assert np.array_equal(made.image.numpy(), stock)
    assert made.plan.calls[0].method == "FluxControlPipeline"
    (told,) = [each.message for each in made.plan.notices if each.option == "controls"]
    assert "guidance=30" in told


def test_it_acts_in_edits(
    client: Clients, checkpoint: Checkpoints, lora: str, controls: Controls
) -> None:
    model = client("flux")
    made = model.edit(
        PHOTO, "a fox", mode="img2img", change=1, seed=3, controls=controls(), guidance=30
    )
    stock = by_hand(
        "FluxControlImg2ImgPipeline",
        checkpoint("flux"),
        {lora: 1.0},
        3,
        image=PHOTO.pil().convert("RGB"),
        control_image=EDGES.pil().convert("RGB"),
        strength=1.0,
    )
    assert np.array_equal(made.image.numpy(), stock)
    painted = {
        model.edit(PHOTO, "a fox", mask=HALF, seed=3, controls=each).image.bytes
        for each in ([], controls(), controls(canny(picture(64, 48))))
    }
    assert len(painted) == 3
    plan = model.plan_edit(PHOTO, "a fox", mask=HALF, controls=controls())
    assert plan.calls[0].method == "FluxControlInpaintPipeline"


def test_other_loras_act_beside_it(
    client: Clients, checkpoint: Checkpoints, lora: str, controls: Controls, tmp_path: Path
) -> None:
    """One of them adapts the input layer, in its first width, another an encoder of text."""
    style = str(tiny.lora(tmp_path / "style", STYLE))
    words = {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (32, 32)}
    voice = str(tiny.lora(tmp_path / "voice", words))
    model = client("flux")
    plain, styled = (
        model.generate("a fox", seed=3, adapters=each).image.bytes for each in ([], [style])
    )
    for loras in ({style: 0.5}, {voice: 1.0}, {style: 1.0, voice: 0.7}):
        worn = [LoRA(path, scale) for path, scale in loras.items()]
        made = model.generate("a fox", seed=3, controls=controls(strength=0.8), adapters=worn)
        stock = by_hand(
            "FluxControlPipeline",
            checkpoint("flux"),
            {lora: 0.8} | loras,
            3,
            control_image=EDGES.pil().convert("RGB"),
        )
        assert np.array_equal(made.image.numpy(), stock)
    assert model.generate("a fox", seed=3).image.bytes == plain
    assert model.generate("a fox", seed=3, adapters=[style]).image.bytes == styled


def test_others_do_not_see_it(client: Clients, controls: Controls, tmp_path: Path) -> None:
    model, style = client("flux"), str(tiny.lora(tmp_path / "style", STYLE))
    wanted: list[dict[str, Any]] = [
        {},
        {"controls": controls()},
        {"adapters": [style]},
        {"controls": controls(strength=0.5)},
        {"controls": controls(), "adapters": [style]},
        {},
    ]

    def drawn(options: dict[str, Any]) -> bytes:
        return model.generate("a fox", seed=1, steps=6, **options).image.bytes

    alone = [drawn(each) for each in wanted]
    assert len(set(alone)) == 5
    with ThreadPoolExecutor(len(wanted)) as pool:
        assert list(pool.map(drawn, wanted)) == alone


def test_the_model_is_the_one_before_whatever_happens(
    checkpoint: Checkpoints, client: Clients, controls: Controls, tmp_path: Path
) -> None:
    model = client(Path(shutil.copytree(checkpoint("flux"), tmp_path / "flux")))
    before = model.generate("a fox", seed=1).image.bytes
    weights = state_of(model)
    events = model.stream_generate("a fox", seed=1, steps=5, controls=controls())
    assert isinstance(next(each for each in events if isinstance(each, Progress)), Progress)
    events.close()
    assert model.generate("a fox", seed=1).image.bytes == before
    far = {f"{BLOCK}.norm_q.weight": torch.ones(8)}
    half = {"transformer.norm_out.linear.lora_A.weight": torch.ones(2, 32)}
    for number, more in enumerate((far, half)):
        wrong = control_lora(tmp_path / f"wrong {number}.safetensors", more=more)
        with pytest.raises((ConfigurationError, InvalidInput), match="wrong"):
            model.generate("a fox", controls=controls(path=str(wrong)))
        assert model.generate("a fox", seed=1).image.bytes == before
    after = state_of(model)
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weights[name]) for name in weights)


def state_of(model: ImageClient) -> dict[str, torch.Tensor]:
    """The weights of the transformer that a client's model has loaded."""
    state = loaded(model).stock.parts["transformer"].state_dict()
    return {name: value.clone() for name, value in state.items()}


def loaded(model: ImageClient) -> Any:
    folder = Path(model.describe().ref.partition("/")[2]).resolve()
    return [each for key, each in provider._ENGINES.items() if key[0] == folder][-1]


def test_a_folder_a_file_and_previews(client: Clients, controls: Controls, tmp_path: Path) -> None:
    model = client("flux")
    control_lora(tmp_path / "control.safetensors")
    made = [
        model.generate("a fox", seed=1, controls=controls(path=str(each))).image.bytes
        for each in (tmp_path, tmp_path / "control.safetensors")
    ]
    assert made[0] == made[1]
    events = list(model.stream_generate("a fox", steps=4, previews=2, controls=controls()))
    assert len([each for each in events if type(each).__name__ == "Preview"]) == 2


@pytest.mark.parametrize(
    ("option", "said", "options"),
    [
        ("controls", "throughout", {"start": 0.2}),
        ("controls", "throughout", {"end": 0.8}),
        ("controls", "strength 0", {"strength": 0}),
    ],
)
def test_what_it_cannot_do_is_refused(
    option: str, said: str, options: dict[str, Any], client: Clients, controls: Controls
) -> None:
    with pytest.raises(UnsupportedOption, match=said) as error:
        client("flux").plan("a fox", controls=controls(**options))
    assert error.value.option == option


def test_what_its_pipeline_cannot_do_is_refused(
    client: Clients, controls: Controls, lora: str
) -> None:
    for said, options in {
        "one control image": {"controls": controls() * 2},
        "negative_prompt": {"negative_prompt": "blue"},
        "references": {"references": [Reference(PHOTO)], "extra": {"ip_adapter": lora}},
        "true_cfg_scale": {"extra": {"true_cfg_scale": 3.0}},
    }.items():
        with pytest.raises(UnsupportedOption, match=said):
            client("flux").plan("a fox", **{"controls": controls()} | options)
    with pytest.raises(InvalidInput, match="canny\\(image\\)"):
        client("flux").generate("a fox", controls=controls(PHOTO))


def test_a_model_that_comes_and_goes_in_parts_is_refused(
    checkpoint: Checkpoints, client: Clients, controls: Controls, tmp_path: Path
) -> None:
    model = client(Path(shutil.copytree(checkpoint("flux"), tmp_path / "flux")))
    model.generate("a fox", seed=1)
    told = Notice("assumed", "its parts take turns on the device", "device")
    loaded(model).lease.placement = Placement("components", 0, notices=(told,))
    with pytest.raises(ConfigurationError, match="take turns"):
        model.generate("a fox", controls=controls())


def test_weights_in_eight_bits_are_refused(
    client: Clients, controls: Controls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (speed, loading):  # as on a chip that multiplies them
        monkeypatch.setattr(module, "format_for", lambda device: torch.int8)
    model = client("flux", speed="fast")
    style = str(tiny.lora(tmp_path / "style", STYLE))
    for option, value in {"controls": controls(), "adapters": [style]}.items():
        with pytest.raises(UnsupportedOption, match="eight bits") as error:
            model.generate("a fox", **{option: value})
        assert error.value.option == option


def test_named_as_an_adapter_it_is_refused(client: Clients, lora: str) -> None:
    for family in ("flux", "flux-schnell"):
        with pytest.raises(UnsupportedOption, match=r"controls=\[Control\(kind, image, path="):
            client(family).plan("a fox", adapters=[lora])


def test_other_models_and_other_files_are_refused(
    client: Clients, controls: Controls, tmp_path: Path
) -> None:
    for family in ("flux-schnell", "flux-undistilled"):
        with pytest.raises(UnsupportedOption, match=r"FLUX\.1 dev alone"):
            client(family).plan("a fox", controls=controls())
    with pytest.raises(ConfigurationError, match="no ControlNet"):
        client("sd").generate("a fox", controls=controls())
    for name, channels in (("fill", 96), ("style", 16)):
        file = control_lora(tmp_path / f"{name}.safetensors", channels)
        with pytest.raises(ConfigurationError, match="no control LoRA"):
            client("flux").generate("a fox", controls=controls(path=str(file)))
    (tmp_path / "text.safetensors").write_text("no weights, but as long as a header's length")
    with pytest.raises(ConfigurationError, match="no control LoRA"):
        client("flux").generate("a fox", controls=controls(path=str(tmp_path / "text.safetensors")))


def test_what_is_not_on_this_machine_is_known_or_said_not_to_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with ImageClient("diffusers/black-forest-labs/FLUX.1-dev") as model:

        def planned(kind: Any, path: str, **options: Any) -> Any:
            return model.plan("a fox", controls=[Control(kind, EDGES, path=path)], **options)

        depth = "black-forest-labs/FLUX.1-Depth-dev-lora"
        for path in (depth, f"{depth}@main", f"{depth}/flux1-depth-dev-lora.safetensors"):
            plan = planned("depth", path)
            assert plan.calls[0].method == "FluxControlPipeline"
            assert any("guidance=10" in each.message for each in plan.notices)
        assert not planned("depth", depth, guidance=8, steps=20).notices
        with pytest.raises(UnsupportedOption, match="trained on depth"):
            planned("canny", depth)
        (told,) = planned("canny", "org/somebodys").notices
        assert (told.kind, told.option) == ("unverified", "controls")
        # As the publisher names the layers, of the true width.
        published = tmp_path / "published.safetensors"
        save_file({"img_in.lora_A.weight": torch.zeros(1, 128)}, published)
        assert planned("canny", str(published)).calls[0].method == "FluxControlPipeline"


def test_a_repository_that_is_here_is_read(
    monkeypatch: pytest.MonkeyPatch, client: Clients, controls: Controls, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--org--somebodys"
    (place / "snapshots" / "main").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("main")
    control_lora(place / "snapshots" / "main" / "control.safetensors")
    model = client("flux")
    drawn = {
        model.generate("a fox", seed=1, controls=controls(path=each)).image.bytes
        for each in ("org/somebodys", "org/somebodys@main", "org/somebodys/control.safetensors")
    }
    assert drawn == {model.generate("a fox", seed=1, controls=controls()).image.bytes}
    with pytest.raises(UnsupportedOption, match="path='org/somebodys'"):
        model.plan("a fox", adapters=["org/somebodys"])


def published(rank: int) -> dict[str, torch.Tensor]:
    """A control LoRA under its authors' names and in the true shapes; without memory, but for one layer."""
    state: dict[str, torch.Tensor] = {}

    def layer(name: str, inputs: int, outputs: int, device: str = "meta") -> None:
        state[f"{name}.lora_A.weight"] = torch.randn(rank, inputs, device=device)
        state[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, device=device)
        state[f"{name}.lora_B.bias"] = torch.randn(outputs, device=device)

    def norms(name: str) -> None:
        for each in ("query_norm", "key_norm"):
            state[f"{name}.{each}.scale"] = torch.ones(128, device="meta")

    width = 3072
    layer("img_in", 128, width)
    layer("txt_in", 4096, width)
    for name, inputs in {"time_in": 256, "vector_in": 768, "guidance_in": 256}.items():
        layer(f"{name}.in_layer", inputs, width)
        layer(f"{name}.out_layer", width, width)
    for block in (f"double_blocks.{each}.{side}" for each in range(19) for side in ("img", "txt")):
        norms(f"{block}_attn.norm")
        layer(f"{block}_mod.lin", width, 6 * width)
        layer(f"{block}_attn.qkv", width, 3 * width)
        layer(f"{block}_attn.proj", width, width)
        layer(f"{block}_mlp.0", width, 4 * width)
        layer(f"{block}_mlp.2", 4 * width, width)
    for block in (f"single_blocks.{each}" for each in range(38)):
        norms(f"{block}.norm")
        layer(f"{block}.modulation.lin", width, 3 * width)
        layer(f"{block}.linear1", width, 7 * width)
        layer(f"{block}.linear2", 5 * width, width)
    layer("final_layer.linear", width, 64)
    layer("final_layer.adaLN_modulation.1", width, 2 * width, "cpu")
    return state


@pytest.mark.parametrize("rank", [4, 5])
def test_the_last_modulation_of_the_published_files_is_read_rightly(rank: int) -> None:
    """As diffusers itself turns the whole weights of FLUX.1 into its own: shift and scale change places."""
    state = published(rank)
    first, second = (state[f"final_layer.adaLN_modulation.1.lora_{each}.weight"] for each in "AB")
    shift, scale = (second @ first).chunk(2)
    read = diffusers.FluxControlPipeline.lora_state_dict(mended(state))
    factors = [read[f"transformer.norm_out.linear.lora_{each}.weight"] for each in "BA"]
    assert torch.allclose(factors[0] @ factors[1], torch.cat([scale, shift]), atol=1e-4)
    with torch.device("meta"):
        model = diffusers.FluxTransformer2DModel(in_channels=128, guidance_embeds=True)
    layers = dict(model.named_modules())
    for name in read:
        layer, _, _ = name.removeprefix("transformer.").partition(".lora_")
        assert layer.removesuffix(".weight") in layers, name
