"""What a checkpoint cannot do to the machine that opens it, and what a broken one is told."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych import ConfigurationError, DiptychError, ImageClient, InvalidInput, UnknownModel

from . import tiny
from .conftest import Checkpoints, Clients

Copies = Callable[[str], Path]


@pytest.fixture
def copy(checkpoint: Checkpoints, tmp_path: Path) -> Copies:
    """A checkpoint of its own for a test that breaks it."""

    def make(family: str) -> Path:
        return Path(shutil.copytree(checkpoint(family), tmp_path / family))

    return make


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.mark, "sprung")


def test_pickled_weights_are_not_opened(copy: Copies, client: Clients, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for family, part in (("sd", "unet"), ("flux", "transformer")):
        folder = copy(family)
        weights = folder / part / "diffusion_pytorch_model.safetensors"
        trap = weights.with_suffix(".bin")
        trap.write_bytes(pickle.dumps(Trap(mark)))
        assert (
            client(folder).generate("a fox", seed=1).images
        )  # beside safetensors it is not looked at
        weights.unlink()
        (folder / "fresh").mkdir()
        moved = Path(shutil.move(folder, tmp_path / f"{family}-pickled"))
        with pytest.raises(ConfigurationError, match="safetensors"):
            client(moved).generate("a fox")
    assert not mark.exists()


def test_code_in_a_checkpoint_is_not_run(copy: Copies, client: Clients, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w').write('sprung')\nclass Evil: pass\n"
    folder = copy("sd")
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("pipeline.py", "evil.py", "unet/evil.py", "tokenizer/evil.py"):
        (folder / name).write_text(code)

    def written(**changes: Any) -> Path:
        other = Path(shutil.copytree(folder, tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"))
        (other / "model_index.json").write_text(json.dumps(index | changes))
        return other

    with pytest.raises(ConfigurationError, match="code of its"):
        client(written(_class_name=["pipeline", "Evil"]))
    for entry in (["evil", "Evil"], ["os", "system"], ["diffusers", "DiffusionPipeline"]):
        with pytest.raises(ConfigurationError, match="not among the classes"):
            client(written(unet=entry)).generate("a fox")
    named = written()
    for part, key in (
        ("text_encoder/config.json", "AutoModel"),
        ("tokenizer/tokenizer_config.json", "AutoTokenizer"),
    ):
        path = named / part
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {key: "evil.Evil"}}))
    assert client(named).generate("a fox", seed=1).images
    assert not mark.exists()


@pytest.mark.parametrize("setting", ["custom_pipeline", "trust_remote_code", "custom_revision"])
def test_settings_that_bring_code_are_unknown(setting: str, checkpoint: Checkpoints) -> None:
    with pytest.raises(DiptychError):
        ImageClient(f"diffusers/{checkpoint('sd')}", **{setting: "anything"})


@pytest.mark.parametrize("family", ["flux", "sd", "sd3"])
def test_a_missing_tokenizer_is_told_when_the_model_loads(
    family: str, copy: Copies, client: Clients
) -> None:
    folder = copy(family)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ConfigurationError, match="tokenizer"):
        client(folder).generate("a fox")
    (folder / "tokenizer").mkdir()
    with pytest.raises(ConfigurationError, match="tokenizer"):
        client(folder).generate("a fox")
    # By this name transformers takes an empty folder for a tokenizer of two words.
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigurationError, match="tokenizer"):
        client(folder).generate("a fox")


def test_a_part_that_a_model_needs_is_missed_at_once(copy: Copies, client: Clients) -> None:
    for family, part in (("flux", "text_encoder_2"), ("sd3", "text_encoder"), ("sd", "vae")):
        folder = copy(family)
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {part: [None, None]}))
        with pytest.raises(ConfigurationError, match=f"lacks {part}"):
            client(folder)


def test_stable_diffusion_3_draws_without_its_third_encoder(copy: Copies, client: Clients) -> None:
    folder = copy("sd3")
    index = json.loads((folder / "model_index.json").read_text())
    without = {part: [None, None] for part in ("text_encoder_3", "tokenizer_3")}
    (folder / "model_index.json").write_text(json.dumps(index | without))
    assert client(folder).generate("a fox", seed=1).images


def test_a_checkpoint_of_another_kind_is_told_apart(copy: Copies, client: Clients) -> None:
    """Fill and Control weights under the name of the plain pipeline fail on a size in diffusers."""
    for family in ("flux-fill", "flux-control"):
        folder = copy(family)
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(
            json.dumps(index | {"_class_name": "FluxPipeline"})
        )
        card = client(folder).describe()
        assert (
            card.note
            == {"flux-fill": "FLUX.1 Fill", "flux-control": "FLUX.1 Canny and Depth"}[family]
        )


def test_a_folder_that_is_no_checkpoint_is_told(tmp_path: Path, client: Clients) -> None:
    with pytest.raises(UnknownModel, match="model_index"):
        client(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(InvalidInput, match="JSON"):
        client(tmp_path)


def test_pipelines_that_cannot_be_run_say_why(tmp_path: Path, client: Clients) -> None:
    for name, said in {
        "FluxPriorReduxPipeline": "no pictures",
        "Flux3ModularPipeline": "modular",
        "ConsistencyModelPipeline": "classes",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
        with pytest.raises(ConfigurationError, match=said):
            client(folder)


def test_a_pipeline_that_nobody_described_runs_as_text_to_image(
    copy: Copies, client: Clients
) -> None:
    folder = copy("sd")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(
        json.dumps(index | {"_class_name": "StableDiffusionPAGPipeline"})
    )
    result = client(folder).generate("a fox", seed=1)
    assert result.images
    assert any(each.kind == "unverified" and each.option == "model" for each in result.notices)
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "NobodysPipeline"}))


def test_a_revision_is_that_revision(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cache of the Hub's layout, without any network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--org--name"
    commits = {"main": "a" * 40, "v1": "b" * 40}
    (home / "refs").mkdir(parents=True)
    for (name, commit), family in zip(commits.items(), ("flux", "sd"), strict=True):
        (home / "refs" / name).write_text(commit)
        shutil.copytree(checkpoint(family), home / "snapshots" / commit)
    notes = {}
    for name in ("org/name", "org/name@v1", f"org/name@{commits['main']}"):
        with ImageClient(f"diffusers/{name}", device="cpu") as model:
            notes[name] = model.describe().note
            assert model.generate("a fox", seed=1).images
    assert list(notes.values()) == ["FLUX.1 dev", "Stable Diffusion 1.x and 2.x", "FLUX.1 dev"]


def test_numbers_that_are_not_finite_are_no_picture(copy: Copies, client: Clients) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy("sd")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    save_file({name: torch.full_like(each, torch.nan) for name, each in state.items()}, file)
    with pytest.raises(DiptychError, match="not finite"):
        client(folder).generate("a fox", seed=1)


def test_opening_a_checkpoint_loads_no_torch(checkpoint: Checkpoints) -> None:
    import subprocess
    import sys

    program = (
        "import sys, time; from diptych import ImageClient; start = time.perf_counter();"
        f"client = ImageClient('diffusers/{checkpoint('sd3')}'); client.describe();"
        "client.plan('a fox', size='64x64', seed=3); client.plan_edit('{photo}', 'a cat', mode='img2img');"
        "print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    photo = checkpoint("sd3").parent / "photo.png"
    tiny_picture().save(photo)
    program = program.replace("{photo}", str(photo))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def tiny_picture() -> Any:
    from .conftest import picture

    return picture(tiny.SIZE, tiny.SIZE)
