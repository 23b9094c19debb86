"""Score both models on held-back combinations: 500 prompts each, and edits of the pictures they drew."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from training import ar, captions, classifier, edits, flow, world
from training.autoencoder import Latents
from training.run import Run, grid
from training.tokenizer import Codes
from training.world import Scenes

PROMPTS, SEED = 500, 2026
TRIALS = 150  # prompts of the sweep that picks guidance, from another seed


def main(run: Run) -> None:
    judge = classifier.judge(run)
    n = run.batch or PROMPTS
    prompts, trial = Prompts(n, SEED), Prompts(min(n, TRIALS), SEED + 1)
    facts = {
        "prompts": n,
        "seed": SEED,
        "judge": json.loads((run.inputs / "classifier.json").read_text()),
    }
    if any(run.inputs.glob("flow.*.safetensors")):
        facts["diffusion"] = _diffusion(run, judge, prompts, trial)
    if any(run.inputs.glob("ar.*.safetensors")):
        facts["autoregressive"] = _autoregressive(run, judge, prompts, trial)
    (run.outputs / "evaluation.json").write_text(json.dumps(facts, indent=2))


@dataclass(frozen=True)
class Edits:
    """One edit of each scene: what it asks for and in which words."""

    scenes: Scenes
    edited: Scenes
    kinds: np.ndarray
    instructions: list[str]

    @classmethod
    def of(cls, scenes: Scenes, edited: Scenes, kinds: np.ndarray, r: random.Random) -> Edits:
        return cls(
            scenes,
            edited,
            kinds,
            [
                edits.instruction(scenes, edited, int(kind), row, r)
                for row, kind in enumerate(kinds)
            ],
        )


class Prompts:
    """Held-back scenes with captions, and one edit of each with the caption of its result."""

    def __init__(self, n: int, seed: int) -> None:
        rng, r = np.random.default_rng(seed), random.Random(seed)
        self.scenes = world.sample(n, rng, held_back=True)
        edited, kinds = edits.apply(self.scenes, rng)
        self.captions = [_clean_caption(self.scenes, row, r) for row in range(n)]
        self.results = [_clean_caption(edited, row, r) for row in range(n)]
        self.edits = Edits.of(self.scenes, edited, kinds, r)


def _clean_caption(scenes: Scenes, row: int, r: random.Random) -> str:
    """A caption from the whole grammar that names the background if the style shows it: what is not asked for is not scored."""
    background = int(scenes["background"][row])
    for _ in range(100):
        text = captions.caption(scenes, row, r)
        word = world.BACKGROUNDS[background]
        hidden = (
            background >= len(world.COLOURS)
            or not world.shows_background(world.take(scenes, slice(row, row + 1)))[0]
        )
        if hidden or any(name in text for name in captions.COLOUR_WORDS.get(word, (word,))):
            return text
    return text


def _edit_scores(
    before: dict[str, np.ndarray], after: dict[str, np.ndarray], asked: Edits
) -> dict[str, object]:
    """Of each kind: how often the asked attribute became what was asked.

    Of each attribute not asked for: how often the judge reads the same in the result as in the picture that was edited.
    """
    changed, kept, hits, counted = {}, {}, 0, 0
    shown = world.shows_background(asked.scenes) & world.shows_background(asked.edited)
    for index, kind in enumerate(edits.KINDS):
        visible = shown if kind == "background" else np.ones_like(shown)
        right = (after[kind] == asked.edited[kind])[(asked.kinds == index) & visible]
        same = (after[kind] == before[kind])[(asked.kinds != index) & visible]
        changed[kind], kept[kind] = (
            round(100 * float(right.mean()), 1),
            round(100 * float(same.mean()), 1),
        )
        hits, counted = hits + int(right.sum()), counted + len(right)
    return {"changed": changed, "changed_all": round(100 * hits / counted, 1), "kept": kept}


def _diffusion(run: Run, judge: classifier.Judge, prompts: Prompts, trial: Prompts) -> dict:
    latents, model = Latents(run), flow.restored(run)
    sweep = {}
    for steps, guidance in (
        (8, 3.0),
        (30, 3.0),
        *((flow.STEPS, guidance) for guidance in (1.0, 2.0, 3.0, 4.5)),
    ):
        drawn = latents.decode(
            flow.sample(run, model, trial.captions, seed=1, steps=steps, guidance=guidance)
        )
        sweep[steps, guidance] = classifier.score(judge.read(drawn), trial.scenes)
        _show(f"diffusion, {steps} steps, guidance {guidance}", sweep[steps, guidance])
    guidance = max(
        (key for key in sweep if key[0] == flow.STEPS), key=lambda key: sum(sweep[key].values())
    )[1]
    source = flow.sample(run, model, prompts.captions, seed=SEED, guidance=guidance)
    drawn = latents.decode(source)
    before = judge.read(drawn)
    facts: dict = {"steps": flow.STEPS, "guidance": guidance, "shift": flow.SHIFT}
    facts["sweep"] = {
        f"{steps} steps, guidance {guidance}": scores for (steps, guidance), scores in sweep.items()
    }
    facts["held_back"] = classifier.score(before, prompts.scenes)
    _show("diffusion", facts["held_back"])
    ways: dict[str, Callable[[], torch.Tensor]] = {
        f"image to image, change {change}": lambda change=change: flow.repaint(
            run, model, source, prompts.results, change, SEED + 2, guidance=guidance
        )
        for change in (0.7, 0.8, 0.9)
    }
    ways |= {
        f"FlowEdit from {start}, guidance {old} and {new}": lambda start=start, old=old, new=new: (
            flow.flow_edit(
                run,
                model,
                source,
                prompts.captions,
                prompts.results,
                seed=SEED + 2,
                start=start,
                guidance=(old, new),
            )
        )
        for start, old, new in ((0.9, 1.5, 4.5), (0.97, 1.5, 4.5), (0.97, 1.5, 3.0))
    }
    facts["edits"] = {}
    for name, way in ways.items():
        edited = latents.decode(way())
        facts["edits"][name] = _edit_scores(before, judge.read(edited), prompts.edits)
        _show(f"diffusion {name}", facts["edits"][name])
        if "change 0.8" in name or name.startswith("FlowEdit from 0.9, guidance 1.5 and 4.5"):
            sheet = torch.stack([drawn[:24], edited[:24]], 1).flatten(0, 1)
            grid(sheet, 12).save(
                run.outputs / f"diffusion-{'img2img' if 'change' in name else 'flowedit'}.jpg",
                quality=90,
            )
    grid(drawn[:48], 12).save(run.outputs / "diffusion.jpg", quality=90)
    (run.outputs / "diffusion.txt").write_text(_listing(prompts, 48))
    return facts


def _autoregressive(run: Run, judge: classifier.Judge, prompts: Prompts, trial: Prompts) -> dict:
    codes, model = Codes(run), ar.restored(run)
    sweep = {}
    for guidance, temperature, top_k in (
        (1.0, 0.9, 256),
        (2.0, 0.9, 256),
        (3.0, 0.9, 256),
        (3.0, 0.7, 64),
        (5.0, 0.9, 256),
    ):
        chat = ar.Chat(
            run, model, [[text] for text in trial.captions], 1, guidance, temperature, top_k
        )
        sweep[guidance, temperature, top_k] = classifier.score(
            judge.read(codes.decode(chat.turn())), trial.scenes
        )
        _show(
            f"autoregressive, guidance {guidance}, temperature {temperature}, top-k {top_k}",
            sweep[guidance, temperature, top_k],
        )
    guidance, temperature, top_k = max(sweep, key=lambda key: sum(sweep[key].values()))
    chat = ar.Chat(
        run, model, [[text] for text in prompts.captions], SEED, guidance, temperature, top_k
    )
    drawn = codes.decode(chat.turn())
    before = judge.read(drawn)
    facts: dict = {"guidance": guidance, "temperature": temperature, "top_k": top_k}
    facts["sweep"] = {
        f"guidance {key[0]}, temperature {key[1]}, top-k {key[2]}": scores
        for key, scores in sweep.items()
    }
    facts["held_back"] = classifier.score(before, prompts.scenes)
    _show("autoregressive", facts["held_back"])
    chat.say(prompts.edits.instructions)
    edited = codes.decode(chat.turn())
    facts["edits"] = {"conversation": _edit_scores(before, judge.read(edited), prompts.edits)}
    _show("autoregressive edits", facts["edits"])
    rng, r = (
        np.random.default_rng(SEED + 3),
        random.Random(SEED + 3),
    )  # then a third picture, from an edit of the edit
    again = Edits.of(prompts.edits.edited, *edits.apply(prompts.edits.edited, rng), r)
    chat.say(again.instructions)
    third = codes.decode(chat.turn())
    facts["edits"]["conversation, third picture"] = _edit_scores(
        judge.read(edited), judge.read(third), again
    )
    _show("autoregressive third", facts["edits"])
    grid(drawn[:48], 12).save(run.outputs / "autoregressive.jpg", quality=90)
    grid(torch.stack([drawn[:16], edited[:16], third[:16]], 1).flatten(0, 1), 12).save(
        run.outputs / "autoregressive-edits.jpg", quality=90
    )
    (run.outputs / "autoregressive.txt").write_text(
        "\n".join(
            map(
                " / ".join,
                zip(
                    prompts.captions[:16],
                    prompts.edits.instructions,
                    again.instructions,
                    strict=False,
                ),
            )
        )
    )
    return facts


def _listing(prompts: Prompts, n: int) -> str:
    return "\n".join(
        f"{text} -> {result}"
        for text, result in zip(prompts.captions[:n], prompts.results, strict=False)
    )


def _show(name: str, facts: dict) -> None:
    print(name, json.dumps(facts), flush=True)
