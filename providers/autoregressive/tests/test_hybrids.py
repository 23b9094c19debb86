"""VAR, MAR and LlamaGen as a caller meets them: through `ImageClient`, on folders of tiny models."""

from __future__ import annotations

import json
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diptych import Image, ImageClient, Mask
from diptych.errors import InvalidInput, UnknownModel, UnsupportedOption
from diptych.events import Completed, Preview, Progress

from .parity import Case, Folder, apart, needs_parity

pytestmark = needs_parity

VAR = Folder(
    Case("var"),
    {"weights": "var_d4.safetensors", "vae": "vae.safetensors"},
    {"size": 64, "classes": 10},
)
MAR = Folder(
    Case("mar"),
    {"weights": "checkpoint-last.safetensors", "vae": "kl16.safetensors"},
    {"size": 64, "classes": 10, "heads": 4, "defaults": {"diffusion_steps": 20, "passes": 8}},
)
LLAMAGEN = Folder(
    Case("llamagen/c2i"),
    {"weights": "c2i_tiny_96.safetensors", "vq": "vq_ds16_c2i.safetensors"},
    {"classes": 10, "heads": 4},
)
ALL = {"var": VAR, "mar": MAR, "llamagen": LLAMAGEN}
UNITS = {"var": ("scales", 4), "mar": ("passes", 8), "llamagen": ("tokens", 36)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: folder.write(root / name) for name, folder in ALL.items()}


@pytest.fixture
def client(folders, request):
    with ImageClient(f"autoregressive/{folders[request.param]}") as made:
        yield made


each = pytest.mark.parametrize("client", ALL, indirect=True)
masked = pytest.mark.parametrize("client", ["var", "mar"], indirect=True)


def pixels(image):
    return image.numpy().astype(int)


def photo(size=(64, 64), seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    width, height = size
    return Image.of(np.kron(small, np.ones((height // 8, width // 8, 1), dtype=np.uint8)))


@each
def test_requests_at_once_do_not_disturb_each_other(client):
    seeds = (1, 2, 3)
    alone = [client.generate("3", seed=seed).image.bytes for seed in seeds]
    with ThreadPoolExecutor(len(seeds)) as threads:
        at_once = threads.map(lambda seed: client.generate("3", seed=seed).image.bytes, seeds)
        assert list(at_once) == alone


@each
def test_pictures_of_one_call_are_those_of_calls_with_their_seeds(client):
    both = client.generate("3", n=2, seed=5)
    assert [image.seed for image in both] == [5, 6]
    alone = client.generate("3", seed=6)
    assert both[1].bytes == alone.image.bytes
    assert both[0].bytes != both[1].bytes
    assert alone.image.size == client.describe().sizes.fixed[0]
    assert alone.image.bytes != client.generate("4", seed=6).image.bytes


@each
def test_progress_counts_what_the_family_counts_and_previews_come_between(client, request):
    name = request.node.callspec.params["client"]
    unit, total = UNITS[name]
    events = list(client.stream_generate("3", n=2, seed=5, previews=2))
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(1, 2 * total + 1))
    assert {(event.unit, event.total) for event in progress} == {(unit, 2 * total)}
    previews = [event for event in events if isinstance(event, Preview)]
    assert [(event.picture, event.index) for event in previews] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert isinstance(events[-1], Completed)
    result = events[-1].result
    assert {event.image.size for event in previews} == {result.image.size}
    assert previews[0].image.bytes != result.image.bytes


@each
def test_fast_batches_are_about_the_same_pictures(client, folders, request):
    name = request.node.callspec.params["client"]
    with ImageClient(f"autoregressive/{folders[name]}", speed="fast") as fast:
        batch = fast.generate("3", n=2, seed=5)
    for quick, exact in zip(batch, client.generate("3", n=2, seed=5), strict=True):
        assert abs(pixels(quick) - pixels(exact)).mean() < 1


@each
def test_the_label_may_be_the_prompt_or_an_extra(client):
    by_prompt = client.generate("3", seed=1)
    both = client.generate("3", seed=1, extra={"label": 3})
    assert both.image.bytes == by_prompt.image.bytes
    assert not both.notices
    labelled = client.generate("a fox reading a book", seed=1, extra={"label": 3})
    assert labelled.image.bytes == by_prompt.image.bytes
    assert [(notice.kind, notice.option) for notice in labelled.notices] == [
        ("translated", "prompt")
    ]
    assert labelled.plan.calls[0].payload["label"] == 3


@each
def test_no_class_is_a_label_too(client):
    free = client.generate("unconditional", seed=1)
    assert free.image.bytes != client.generate("3", seed=1).image.bytes
    guided = client.plan("unconditional", seed=1, guidance=5.0)
    assert [notice.option for notice in guided.notices] == ["guidance"]


@each
@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ("a fox reading a book", {}, "draws classes and reads no other words"),
        ("10", {}, "0 to 9"),
        ("3", {"extra": {"label": 4}}, "name different classes"),
        ("3", {"extra": {"label": 2.5}}, "number of a class"),
        ("3", {"extra": {"label": 3, "top_p": 2}}, "from 0 to 1|no 'top_p'"),
        ("3", {"extra": {"temprature": 1}}, "there is no 'temprature'"),
        ("3", {"size": "1024x1024"}, "it makes"),
        ("3", {"negative_prompt": "a dog"}, "has no negative_prompt"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_runs(client, prompt, options, said):
    with pytest.raises((InvalidInput, UnsupportedOption), match=said):
        client.plan(prompt, **options)


@each
def test_every_setting_changes_the_picture(client, request):
    settings = {
        "var": [{"guidance": 1.0}, {"extra": {"top_k": 2}}, {"extra": {"top_p": 0.1}},
                {"extra": {"more_smooth": True}}],
        "mar": [{"guidance": 1.5}, {"steps": 3}, {"extra": {"temperature": 0.5}},
                {"extra": {"schedule": "linear"}}, {"extra": {"diffusion_steps": 10}}],
        "llamagen": [{"guidance": 1.0}, {"extra": {"temperature": 0.1}}, {"extra": {"top_k": 2}},
                     {"extra": {"top_p": 0.1}}, {"extra": {"cfg_interval": 3}}],
    }[request.node.callspec.params["client"]]  # fmt: skip
    base = client.generate("3", seed=8)
    for options in settings:
        assert client.generate("3", seed=8, **options).image.bytes != base.image.bytes, options


def test_the_picture_is_the_authors(folders):
    """One picture, no class guidance: here the seed leads to the very tokens of the authors' code."""
    how = LLAMAGEN.case.runs["nocfg"]
    with ImageClient(f"autoregressive/{folders['llamagen']}") as client:
        result = client.generate(
            str(how["labels"][0]),
            seed=how["seed"],
            guidance=how["cfg_scale"],
            extra={name: how[name] for name in ("temperature", "top_k", "top_p")},
        )
    theirs = LLAMAGEN.case.tensors("expected")["nocfg.image"][0].clamp(-1, 1)
    ours = torch.from_numpy(result.image.numpy().copy()).permute(2, 0, 1) / 127.5 - 1
    assert apart(ours, theirs) <= 1 / 127.5


@masked
def test_a_mask_is_painted_inside_and_nothing_changes_outside(client):
    source = photo()
    mask = Mask.box((16, 16, 48, 40), size=(64, 64))
    result = client.edit(source, "3", mask=mask, seed=1, n=2)
    assert result.plan.mode == "inpaint"
    outside = mask.numpy() == 0
    for image in result:
        assert (image.numpy()[outside] == source.numpy()[outside]).all()
        assert (image.numpy()[~outside] != source.numpy()[~outside]).any()
    assert result[0].bytes != result[1].bytes
    assert result[1].bytes == client.edit(source, "3", mask=mask, seed=2).image.bytes
    # The grid of tokens is 4x4: those that the mask touches are made anew.
    assert result.plan.calls[0].payload["tokens"] == ["....", ".##.", ".##.", "...."]


@masked
def test_outpainting_keeps_the_picture_and_paints_the_border(client):
    source = photo()
    result = client.edit(source, "unconditional", expand=(0, 0, 64, 0), seed=1)
    assert result.image.size == (128, 64)
    assert (result.image.numpy()[:, :64] == source.numpy()).all()
    assert result.plan.calls[0].payload["tokens"] == ["..##"] * 4
    assert any("scaled" in notice.message for notice in result.notices)


@masked
def test_without_a_mask_there_is_nothing_that_it_can_do(client):
    with pytest.raises(UnsupportedOption, match="it has inpaint"):
        client.plan_edit(photo(), "3")


def test_llamagen_says_that_it_does_not_edit(folders):
    with (
        ImageClient(f"autoregressive/{folders['llamagen']}") as client,
        pytest.raises(UnsupportedOption, match="no edit modes"),
    ):
        client.plan_edit(photo(), "3", mask=Mask.box((0, 0, 8, 8), size=(64, 64)))


@pytest.mark.parametrize("client", ["mar"], indirect=True)
def test_passes_are_no_more_than_there_are_tokens_to_make(client):
    mask = Mask.box((0, 0, 16, 16), size=(64, 64))
    assert client.edit(photo(), "3", mask=mask).usage.steps == 1
    with pytest.raises(InvalidInput, match="covers 1 tokens"):
        client.plan_edit(photo(), "3", mask=mask, steps=2)
    assert [notice.option for notice in client.plan("3", steps=4).notices] == ["steps"]


def test_names_of_imagenet(tmp_path):
    """A model of 1000 classes takes their names, as the published ones do."""
    state = VAR.case.tensors("weights")
    table = state["class_emb.weight"]
    grown = torch.randn(1001, table.shape[1], generator=torch.Generator().manual_seed(0))
    state["class_emb.weight"] = grown * table.std()
    folder = replace(VAR, facts={"size": 64}).write(tmp_path / "var")
    save_file(state, folder / "var_d4.safetensors")
    with ImageClient(f"autoregressive/{folder}") as client:
        named = client.generate("a Golden Retriever", seed=1)
        assert named.plan.calls[0].payload["label"] == 207
        assert named.image.bytes == client.generate("207", seed=1).image.bytes
        with pytest.raises(InvalidInput, match=r"near it: 'red fox' \(277\)"):
            client.plan("fox")
        with pytest.raises(InvalidInput, match="134 is crane, crane bird; 517 is crane"):
            client.plan("crane")


PICKLED: dict[str, dict[str, tuple[str, str | None]]] = {
    "var": {"weights": ("var_d4.pth", None), "vae": ("vae_ch160v4096z32.pth", None)},
    "mar": {"weights": ("checkpoint-last.pth", "model_ema"), "vae": ("kl16.ckpt", "model")},
    "llamagen": {"weights": ("c2i_tiny_96.pt", "module"), "vq": ("vq_ds16_c2i.pt", "model")},
}


@pytest.mark.parametrize("name", ALL)
def test_the_published_pickles_give_the_same_pictures(name, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / name
    folder.mkdir()
    for part, (file, key) in PICKLED[name].items():
        state = ALL[name].case.tensors(part)
        saved: dict[str, Any] = dict(state)
        if key is not None:
            # Beside what is wanted: another copy, and what training leaves.
            other = {each: tensor * 0 for each, tensor in state.items()}
            saved = {"optimizer": {"state": other}, key: state, "epoch": 3, "args": Namespace(lr=1)}
            if key == "model_ema":
                saved["model"] = other
        torch.save(saved, folder / file)
    (folder / "diptych.json").write_text(json.dumps(dict(ALL[name].facts)))
    with (
        ImageClient(f"autoregressive/{folder}") as pickled,
        ImageClient(f"autoregressive/{folders[name]}") as safe,
    ):
        ours, theirs = (client.generate("3", seed=1).image for client in (pickled, safe))
    assert ours.bytes == theirs.bytes


class Code:
    """What runs code where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = VAR.write(tmp_path / "var")
    (folder / "var_d4.safetensors").unlink()
    marker = tmp_path / "ran"
    torch.save({**VAR.case.tensors("weights"), "more": Code(marker)}, folder / "var_d4.pth")
    with (
        ImageClient(f"autoregressive/{folder}") as client,
        pytest.raises(InvalidInput, match="runs code when it is loaded"),
    ):
        client.generate("3")
    assert not marker.exists()


def test_a_folder_that_lacks_a_part_says_which(tmp_path):
    for name, part, missing in (
        ("var", "weights", "tokenizer"),
        ("llamagen", "weights", "vq_ds16_c2i.pt"),
    ):
        whole = ALL[name]
        partial = replace(whole, files={part: whole.files[part]})
        folder = partial.write(tmp_path / name)
        with pytest.raises(UnknownModel, match=missing):
            ImageClient(f"autoregressive/{folder}")


@pytest.mark.parametrize("name", ALL)
def test_of_several_models_in_a_folder_one_is_named(name, tmp_path):
    folder = ALL[name].write(tmp_path / name)
    first = ALL[name].files["weights"]
    second = {"var": "var_d6", "mar": "mar_base", "llamagen": "c2i_other_96"}[name] + ".safetensors"
    (folder / second).write_bytes((folder / first).read_bytes())
    with pytest.raises(UnknownModel, match=r"say which with ImageClient\(\.\.\., weights=\.\.\.\)"):
        ImageClient(f"autoregressive/{folder}")
    with ImageClient(f"autoregressive/{folder}", weights=second) as client:
        assert client.generate("3", seed=1).image.size
    with pytest.raises(UnknownModel, match="has no weights='nothing'"):
        ImageClient(f"autoregressive/{folder}", weights="nothing")


@pytest.mark.parametrize(
    ("name", "facts", "said"),
    [
        ("var", {"size": 128, "classes": 10}, '"size": 64, "classes": 10'),
        ("var", {"size": 64}, '"classes": 10'),
        ("mar", {"size": 64, "classes": 10}, "attention heads"),
        ("mar", {"size": 128, "classes": 10, "heads": 4}, '"size": 64'),
        ("llamagen", {"classes": 10}, "attention heads"),
        ("llamagen", {"heads": 4}, '"classes": 10'),
    ],
)
def test_weights_that_are_not_what_was_planned_are_refused(name, facts, said, tmp_path):
    folder = replace(ALL[name], facts=facts).write(tmp_path / name)
    with (
        ImageClient(f"autoregressive/{folder}") as client,
        pytest.raises(InvalidInput, match=said),
    ):
        client.generate("3")


@pytest.mark.parametrize("name", ALL)
def test_weights_of_something_else_are_refused(name, tmp_path):
    folder = ALL[name].write(tmp_path / name)
    save_file({"something": torch.zeros(1)}, folder / ALL[name].files["weights"])
    with (
        ImageClient(f"autoregressive/{folder}") as client,
        pytest.raises(InvalidInput, match="does not hold"),
    ):
        client.generate("3")


def test_known_repositories_have_cards_without_a_network():
    for repository, size in (
        ("FoundationVision/var", 256),
        ("FoundationVision/LlamaGen", 384),
        ("peizesun/llamagen_t2i", 512),
    ):
        with ImageClient(f"autoregressive/{repository}") as client:
            assert client.describe().sizes.fixed == ((size, size),)
    with ImageClient("autoregressive/FoundationVision/var", weights="var_d36.pth") as client:
        assert client.describe().sizes.fixed == ((512, 512),)
        assert client.plan("golden retriever").calls[0].payload["label"] == 207
    with pytest.raises(UnknownModel, match=r"var_d16\.pth"):
        ImageClient("autoregressive/FoundationVision/var", weights="var_d17")
