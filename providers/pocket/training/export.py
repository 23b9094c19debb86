"""Write the two checkpoint folders, their cards, and the figures in the README."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from transformers import (
    Emu3ImageProcessor,
    Emu3Processor,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from training import card, figures, flow, models, world
from training.run import Run, load
from training.words import CODES, EMU3, GRID, LENGTH, Words


def main(run: Run) -> None:
    """Write both folders with their cards, and the tables of the README."""
    evaluation = json.loads((run.inputs / "evaluation.json").read_text())
    judge = {key: evaluation[key] for key in ("prompts", "seed", "judge")}
    writers = {"diffusion": _diffusion, "autoregressive": _autoregressive}
    for folder in card.FOLDERS:
        measured = evaluation[folder.name]
        shutil.rmtree(folder, ignore_errors=True)
        facts = writers[folder.name](run, folder, measured)
        for path in folder.rglob("*.safetensors"):
            path.chmod(0o644)
        card.write(folder, {**facts, "evaluation": {**judge, **measured}})
    figures.write(*(card.read(folder) for folder in card.FOLDERS))


def _diffusion(run: Run, folder: Path, measured: dict[str, Any]) -> dict[str, Any]:
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
        "name": "diffusers/pocket",
        "defaults": {
            "num_inference_steps": measured["steps"],
            "true_cfg_scale": measured["guidance"],
            "negative_prompt": "",
            "max_sequence_length": LENGTH,
            "flowedit": {"change": 0.97, "source_guidance": 1.5, "guidance": 3.0},
        },
        "training": {"autoencoder": latents, "flow": json.loads((run.inputs / "flow.json").read_text())},
    }  # fmt: skip


def _tokenizer(words: Words, template: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=words.tokenizer(template), model_max_length=LENGTH, pad_token="<pad>", eos_token="</s>", bos_token="<s>",
    )  # fmt: skip


def _autoregressive(run: Run, folder: Path, measured: dict[str, Any]) -> dict[str, Any]:
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
        "name": "autoregressive/pocket",
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
