"""The evaluation as tables, written into the README from the cards of the two folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- figures: written by `python -m training card` -->", "<!-- end of figures -->"
COLUMNS = {
    "subject": "subject",
    "item": "object",
    "wear": "worn",
    "background": "background",
    "style": "style",
}
Scores = Mapping[str, float]


def write(diffusion: Mapping[str, Any], autoregressive: Mapping[str, Any]) -> None:
    """Rewrite the generated part of the README."""
    before, rest = README.read_text().split(BEGIN, 1)
    tables = "\n".join(lines(diffusion, autoregressive))
    README.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END, 1)[1]}")


def lines(diffusion: Mapping[str, Any], autoregressive: Mapping[str, Any]) -> list[str]:
    """Markdown of all tables."""
    measured = {
        "diffusion": diffusion["evaluation"],
        "autoregressive": autoregressive["evaluation"],
    }
    first, second = measured.values()
    judge, codecs = first["judge"], {**diffusion["training"], **autoregressive["training"]}
    drawn = {
        f"diffusion, {first['steps']} steps, guidance {first['guidance']}": first["held_back"],
        f"autoregressive, guidance {second['guidance']}, temperature {second['temperature']}, "
        f"top-k {second['top_k']}": second["held_back"],
        "the judge on true pictures": judge["drawn"],
        "... through the autoencoder": judge["autoencoder"],
        "... through the tokenizer": judge["tokenizer"],
    }
    ways = _named(measured, "edits")
    changed = {f"{name} (all: {s['changed_all']:.1f})": s["changed"] for name, s in ways.items()}
    kept = {name: scores["kept"] for name, scores in ways.items()}
    return [
        f"Drawn as asked, {first['prompts']} held-back prompts, percent:",
        *_table("model", drawn),
        "One edit of each picture: how often the asked attribute became what was asked, percent:",
        *_table("edit", changed),
        "How often an attribute that was not asked for stayed, percent:",
        *_table("edit", kept),
        f"What is left of a true picture: {codecs['autoencoder']['psnr']} dB through the "
        f"autoencoder, {codecs['tokenizer']['psnr']} dB through the tokenizer.",
        "",
        "<details><summary>Settings tried on 150 other held-back prompts, percent</summary>",
        *_table("setting", _named(measured, "sweep")),
        "</details>",
    ]


def _named(measured: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {
        f"{model}, {name}": scores
        for model, facts in measured.items()
        for name, scores in facts[part].items()
    }


def _table(title: str, rows: Mapping[str, Scores]) -> list[str]:
    head = "| " + " | ".join([title, *COLUMNS.values()]) + " |"
    body = [
        "| " + " | ".join([name, *(f"{scores[key]:.1f}" for key in COLUMNS)]) + " |"
        for name, scores in rows.items()
    ]
    return ["", head, "|---" * (len(COLUMNS) + 1) + "|", *body, ""]
