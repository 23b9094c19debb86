"""Take the shipped folders apart into the files that training commands read.

With them the judge, the evaluation or more training can be run from the repository.
"""

from __future__ import annotations

import json
from typing import Any

from diffusers import FluxPipeline
from transformers import Emu3ForConditionalGeneration

from training import card, models
from training.run import Run, save


def main(run: Run) -> None:
    diffusion, autoregressive = card.FOLDERS
    facts: dict[str, Any] = {}
    for folder in card.FOLDERS:
        facts |= card.read(folder)["training"]
    for name, values in facts.items():
        (run.outputs / f"{name}.json").write_text(json.dumps(values))

    pipeline = FluxPipeline.from_pretrained(diffusion, use_safetensors=True)
    flow = models.Flow()
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        getattr(flow, part).load_state_dict(getattr(pipeline, part).state_dict())
    save(run.outputs, "flow", flow)
    save(run.outputs, "autoencoder", pipeline.vae)

    emu3 = Emu3ForConditionalGeneration.from_pretrained(autoregressive, use_safetensors=True)
    save(run.outputs, "ar", emu3.model.text_model)
    save(run.outputs, "tokenizer", emu3.model.vqmodel)
