"""`make demo`: one prompt and one edit on both paradigms, offline, and both on one contact sheet.

No key, no network, no GPU: the two pocket models that ship with diptych run on the CPU, through the
engines that run Emu3 and FLUX. The left column is autoregressive, the right one diffusion.
"""

from __future__ import annotations

import time
from pathlib import Path

from diptych import ImageClient, Result
from diptych.sheet import Panel, contact_sheet

MODELS = ("autoregressive/pocket", "diffusers/pocket")
SENTENCES = ("a watercolor of a fox reading a book in a meadow", "now make it a raccoon")


def main(folder: Path = Path("out")) -> Path:
    folder.mkdir(exist_ok=True)
    columns = [converse(model) for model in MODELS]
    rows = list(zip(*columns, strict=True))  # from a column a model to a row a sentence
    target = folder / "demo.png"
    contact_sheet(rows, titles=SENTENCES).save(target)
    print("saved", target)
    return target


def converse(model: str) -> list[Panel]:
    """Say the sentences to `model`; a panel for each picture."""
    panels: list[Panel] = []
    with ImageClient(model) as client:
        chat = client.conversation()
        for seed, sentence in enumerate(SENTENCES):
            began = time.perf_counter()
            result = chat.send(sentence, seed=seed)
            seconds = time.perf_counter() - began
            loading = " (loading the model included)" if not panels else ""
            print(f"> {sentence}\n{result.plan}\n  {seconds:.1f} s{loading}\n")
            panels.append(Panel(result.image, (*_told(result), f"{seconds:.1f} s{loading}")))
    return panels


def _told(result: Result) -> tuple[str, ...]:
    assert result.plan is not None
    plan = result.plan
    return (f"{plan.model}: {plan.mode}", plan.why, f"sent: {plan.request.prompt}")


if __name__ == "__main__":
    main()
