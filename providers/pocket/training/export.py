"""Write the two checkpoint folders, their cards, and the figures in the README."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from transformers import (
    Emu3ImageProcessor,
    Emu3Processor,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from training import card, flow, models, world
from training.run import Run, load
from training.words import CODES, EMU3, GRID, LENGTH, Words

README = Path("README.md")
BEGIN, END = "<!-- figures: written by `python -m training export` -->", "<!-- end of figures -->"


def main(run: Run) -> None:
    evaluation = json.loads((run.inputs / "evaluation.json").read_text())
    judge = {key: evaluation[key] for key in ("prompts", "seed", "judge")}
    for paradigm, write in (("diffusion", _diffusion), ("autoregressive", _autoregressive)):
        folder = card.PACKAGE / paradigm
        shutil.rmtree(folder, ignore_errors=True)
        facts = write(run, folder, evaluation[paradigm])
        for path in folder.rglob("*.safetensors"):
            path.chmod(0o644)
        card.write(
            folder,
            {
                "name": f"{facts.pop('provider')}/pocket",
                **facts,
                "evaluation": {**judge, **evaluation[paradigm]},
            },
        )
    _figures(
        evaluation,
        {
            name: json.loads((run.inputs / f"{name}.json").read_text())
            for name in ("autoencoder", "tokenizer")
        },
    )


def _diffusion(run: Run, folder: Path, measured: dict) -> dict:
    words, parts, vae = run.words, models.Flow(), models.autoencoder()
    load(run.inputs, "flow", parts)
    load(run.inputs, "autoencoder", vae)
    latents = json.loads((run.inputs / "autoencoder.json").read_text())
    vae.register_to_config(
        scaling_factor=latents["scaling_factor"], shift_factor=latents["shift_factor"]
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=flow.SHIFT), vae=vae, transformer=parts.transformer,
        text_encoder=parts.text_encoder, tokenizer=_tokenizer(words, "<s> $A </s>"),
        text_encoder_2=parts.text_encoder_2, tokenizer_2=_tokenizer(words, "$A </s>"),
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    return {
        "provider": "diffusers",
        "defaults": {"num_inference_steps": measured["steps"], "true_cfg_scale": measured["guidance"], "negative_prompt": "", "max_sequence_length": LENGTH},
        "training": {"autoencoder": latents, "flow": json.loads((run.inputs / "flow.json").read_text())},
    }  # fmt: skip


def _tokenizer(words: Words, template: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=words.tokenizer(template), model_max_length=LENGTH, pad_token="<pad>", eos_token="</s>", bos_token="<s>",
    )  # fmt: skip


def _autoregressive(run: Run, folder: Path, measured: dict) -> dict:
    words = run.words
    model = models.emu3(words).eval()
    load(run.inputs, "ar", model.model.text_model)
    load(run.inputs, "tokenizer", model.model.vqmodel)
    if not torch.equal(
        model.model.vqmodel.quantize.embedding.weight.half(), models.grid_codebook().half()
    ):
        raise ValueError("the tokenizer's codebook is not the fixed grid")
    sampling = {key: measured[key] for key in ("temperature", "top_k")}
    model.generation_config = GenerationConfig(
        bos_token_id=words.control["bos"], eos_token_id=words.control["eos"], pad_token_id=model.config.text_config.pad_token_id, do_sample=True, **sampling
    )  # fmt: skip
    model.half().save_pretrained(folder)
    roles = {
        f"{role}_token": EMU3[role]
        for role in ("image", "boi", "eoi", "image_wrapper", "eol", "eof")
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words.emu3(),
        pad_token="<pad>",
        bos_token=EMU3["bos"],
        eos_token=EMU3["eos"],
        extra_special_tokens=roles,
        model_max_length=4096,
    )
    half = [0.5, 0.5, 0.5]  # pixels in [-1, 1], as the tokenizer was trained
    images = Emu3ImageProcessor(
        min_pixels=world.SIZE**2, max_pixels=world.SIZE**2, image_mean=half, image_std=half
    )
    Emu3Processor(images, tokenizer).save_pretrained(folder)
    return {
        "provider": "autoregressive",
        "defaults": {
            "guidance_scale": measured["guidance"],
            **sampling,
            "ratio": "1:1",
            "image_area": world.SIZE**2,
        },
        "tokens": {
            **words.control,
            "area": words.area,
            "first_visual": words.visual,
            "visual": CODES,
            "rows": GRID,
            "columns": GRID,
        },
        "trained_images": 3,
        "training": {
            name: json.loads((run.inputs / f"{name}.json").read_text())
            for name in ("tokenizer", "ar")
        },
    }


def _figures(evaluation: dict, codecs: dict[str, dict]) -> None:
    """Rewrite the generated part of the README."""
    columns = ("subject", "item", "wear", "background", "style")
    row = lambda name, values: (
        "| " + " | ".join([name, *(f"{values[c]:.1f}" for c in columns)]) + " |"
    )
    head = lambda title: [
        "| " + " | ".join([title, "subject", "object", "worn", "background", "style"]) + " |",
        "|---" * 6 + "|",
    ]
    diffusion, autoregressive, judge = (
        evaluation[key] for key in ("diffusion", "autoregressive", "judge")
    )
    ways = {f"diffusion, {name}": scores for name, scores in diffusion["edits"].items()}
    ways |= {f"autoregressive, {name}": scores for name, scores in autoregressive["edits"].items()}
    lines = [
        BEGIN, "",
        f"Drawn as asked, {evaluation['prompts']} held-back prompts, percent:", "",
        *head("model"),
        row(f"diffusion, {diffusion['steps']} steps, guidance {diffusion['guidance']}", diffusion["held_back"]),
        row(
            f"autoregressive, guidance {autoregressive['guidance']}, temperature {autoregressive['temperature']}, top-k {autoregressive['top_k']}",
            autoregressive["held_back"],
        ),
        row("the judge on true pictures", judge["drawn"]),
        row("... through the autoencoder", judge["autoencoder"]),
        row("... through the tokenizer", judge["tokenizer"]), "",
        "One edit of each picture: how often the asked attribute became what was asked, percent:", "",
        *head("edit"), *(row(f"{name} (all: {s['changed_all']:.1f})", s["changed"]) for name, s in ways.items()), "",
        "How often an attribute that was not asked for stayed, percent:", "",
        *head("edit"), *(row(name, s["kept"]) for name, s in ways.items()), "",
        f"What is left of a true picture: {codecs['autoencoder']['psnr']} dB through the autoencoder, {codecs['tokenizer']['psnr']} dB through the tokenizer "
        f"({codecs['tokenizer']['codes_used']} of 4,096 codes seen in one batch).",
        "",
        "Settings tried on 150 other held-back prompts, percent:", "",
        *head("setting"),
        *(row(f"diffusion, {name}", s) for name, s in diffusion["sweep"].items()),
        *(row(f"autoregressive, {name}", s) for name, s in autoregressive["sweep"].items()), "",
        END,
    ]  # fmt: skip
    text = README.read_text()
    before, rest = text.split(BEGIN, 1)
    README.write_text(before + "\n".join(lines) + rest.split(END, 1)[1])
