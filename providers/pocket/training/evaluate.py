"""Score both models on held-back combinations: 500 prompts each, and edits of the pictures they drew."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training import ar, captions, classifier, edits, flow, judge, models, world
from training.autoencoder import Latents
from training.run import Run, grid
from training.tokenizer import Codes
from training.world import Scenes

PROMPTS, SEED = 500, 2026
TRIALS = 150  # prompts of the sweep that picks guidance, from another seed
Facts = dict[str, Any]


def main(run: Run) -> None:
    """Write the figures of both models to evaluation.json, with sample sheets beside it."""
    reader = judge.load(run.inputs / "judge.safetensors").to(run.device)
    n = run.batch or PROMPTS
    prompts, trial = Prompts(n, SEED), Prompts(min(n, TRIALS), SEED + 1)
    measured = json.loads((run.inputs / "classifier.json").read_text())
    facts: Facts = {"prompts": n, "seed": SEED, "judge": measured}
    if any(run.inputs.glob("flow.*.safetensors")):
        facts["diffusion"] = _diffusion(run, reader, prompts, trial)
    if any(run.inputs.glob("ar.*.safetensors")):
        facts["autoregressive"] = _autoregressive(run, reader, prompts, trial)
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
        said = [
            edits.instruction(scenes, edited, int(kind), row, r) for row, kind in enumerate(kinds)
        ]
        return cls(scenes, edited, kinds, said)


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
    """A caption that names the background if the style shows it: what is not asked for is not scored."""
    background = int(scenes["background"][row])
    word = world.BACKGROUNDS[background]
    shown = world.shows_background(world.take(scenes, slice(row, row + 1)))[0]
    text = captions.caption(scenes, row, r)
    if background >= len(world.COLOURS) or not shown:
        return text
    while not any(name in text for name in captions.COLOUR_WORDS.get(word, (word,))):
        text = captions.caption(scenes, row, r)
    return text


def edit_scores(before: Scenes, after: Scenes, asked: Edits) -> Facts:
    """Of each kind: how often the asked attribute became what was asked.

    Of each attribute not asked for: how often the judge reads the same in the result as in the
    picture that was edited.
    """
    changed, kept, hits, counted = {}, {}, 0, 0
    shown = world.shows_background(asked.scenes) & world.shows_background(asked.edited)
    for index, kind in enumerate(edits.KINDS):
        visible = shown if kind == "background" else np.ones_like(shown)
        right = (after[kind] == asked.edited[kind])[(asked.kinds == index) & visible]
        same = (after[kind] == before[kind])[(asked.kinds != index) & visible]
        changed[kind] = round(100 * float(right.mean()), 1)
        kept[kind] = round(100 * float(same.mean()), 1)
        hits, counted = hits + int(right.sum()), counted + len(right)
    return {"changed": changed, "changed_all": round(100 * hits / counted, 1), "kept": kept}


def _diffusion(run: Run, reader: judge.Judge, prompts: Prompts, trial: Prompts) -> Facts:
    latents, model = Latents(run), flow.restored(run)
    guidances = [(flow.STEPS, guidance) for guidance in (1.0, 2.0, 3.0, 4.5)]
    sweep = {}
    for steps, guidance in ((8, 3.0), (30, 3.0), *guidances):
        tried = flow.sample(run, model, trial.captions, seed=1, steps=steps, guidance=guidance)
        scores = classifier.score(reader.numbers(latents.decode(tried)), trial.scenes)
        sweep[steps, guidance] = _shown(f"diffusion, {steps} steps, guidance {guidance}", scores)
    guidance = max(guidances, key=lambda key: sum(sweep[key].values()))[1]
    source = flow.sample(run, model, prompts.captions, seed=SEED, guidance=guidance)
    drawn = latents.decode(source)
    before = reader.numbers(drawn)
    facts: Facts = {"steps": flow.STEPS, "guidance": guidance, "shift": flow.SHIFT}
    facts["sweep"] = {f"{key[0]} steps, guidance {key[1]}": sweep[key] for key in sweep}
    facts["held_back"] = _shown("diffusion", classifier.score(before, prompts.scenes))
    facts["edits"] = {}
    for name, result in _repainted(run, model, source, prompts, guidance):
        edited = latents.decode(result)
        scores = edit_scores(before, reader.numbers(edited), prompts.edits)
        facts["edits"][name] = _shown(f"diffusion, {name}", scores)
        if name.startswith("FlowEdit from 0.9,"):
            pairs = torch.stack([drawn[:24], edited[:24]], 1).flatten(0, 1)
            grid(pairs, 12).save(run.outputs / "diffusion-flowedit.jpg", quality=90)
    grid(drawn[:48], 12).save(run.outputs / "diffusion.jpg", quality=90)
    return facts


def _repainted(
    run: Run, model: models.Flow, source: torch.Tensor, prompts: Prompts, guidance: float
) -> Iterator[tuple[str, torch.Tensor]]:
    """The ways to edit latents, each with its name and its result."""
    before, after, seed = prompts.captions, prompts.results, SEED + 2
    for change in (0.7, 0.8, 0.9):
        result = flow.repaint(run, model, source, after, change, seed, guidance=guidance)
        yield f"image to image, change {change}", result
    for start, old, new in ((0.9, 1.5, 4.5), (0.97, 1.5, 4.5), (0.97, 1.5, 3.0)):
        pair = (old, new)
        result = flow.flow_edit(
            run, model, source, before, after, seed=seed, start=start, guidance=pair
        )
        yield f"FlowEdit from {start}, guidance {old} and {new}", result


def _autoregressive(run: Run, reader: judge.Judge, prompts: Prompts, trial: Prompts) -> Facts:
    codes, model = Codes(run), ar.restored(run)
    sweep = {}
    for guidance in (1.0, 2.0, 3.0, 5.0):
        for temperature, top_k in ((0.9, 256), (0.7, 64)) if guidance == 3.0 else ((0.9, 256),):
            setting = (guidance, temperature, top_k)
            chat = ar.Chat(run, model, [[text] for text in trial.captions], 1, *setting)
            scores = classifier.score(reader.numbers(codes.decode(chat.turn())), trial.scenes)
            sweep[setting] = _shown(_setting(*setting), scores)
    best = max(sweep, key=lambda key: sum(sweep[key].values()))
    chat = ar.Chat(run, model, [[text] for text in prompts.captions], SEED, *best)
    drawn = codes.decode(chat.turn())
    before = reader.numbers(drawn)
    facts: Facts = dict(zip(("guidance", "temperature", "top_k"), best, strict=True))
    facts["sweep"] = {_setting(*key): scores for key, scores in sweep.items()}
    facts["held_back"] = _shown("autoregressive", classifier.score(before, prompts.scenes))

    # Two edits, one after the other, as turns of the same conversation.
    first, rng = prompts.edits.edited, np.random.default_rng(SEED + 3)
    again = Edits.of(first, *edits.apply(first, rng), random.Random(SEED + 3))
    pictures, facts["edits"] = [drawn], {}
    for name, asked in (
        ("conversation", prompts.edits),
        ("conversation, third picture", again),
    ):
        chat.say(asked.instructions)
        pictures.append(codes.decode(chat.turn()))
        seen = reader.numbers(pictures[-1])
        facts["edits"][name] = _shown(name, edit_scores(before, seen, asked))
        before = seen
    triples = torch.stack([part[:16] for part in pictures], 1).flatten(0, 1)
    grid(triples, 12).save(run.outputs / "autoregressive-edits.jpg", quality=90)
    grid(drawn[:48], 12).save(run.outputs / "autoregressive.jpg", quality=90)
    return facts


def _setting(guidance: float, temperature: float, top_k: int) -> str:
    return f"guidance {guidance}, temperature {temperature}, top-k {top_k}"


def _shown(name: str, facts: Facts) -> Facts:
    print(name, json.dumps(facts), flush=True)
    return facts
