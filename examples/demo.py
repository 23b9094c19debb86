"""`make demo`: both paradigms, offline, against the loopback peers that ship with diptych.

No key and no network. The peers speak the wire formats of OpenAI and fal on real sockets and paint flat
patterns, so this shows what diptych does around a model and not what a model can paint.
"""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from diptych import ImageClient
from diptych.testing.peers import FalPeer, OpenAIPeer

MESSAGES = (
    "Generate a watercolor of a fox reading a book.",
    "Then make a variant where it's a raccoon.",
)


def main(folder: Path = Path("out")) -> Path:
    folder.mkdir(exist_ok=True)
    panels = []
    with OpenAIPeer() as openai, FalPeer() as fal:
        for model, key, url in (
            ("openai/gpt-image-2", openai.key, openai.base_url),
            ("fal/flux-pro/v1.1", fal.key, fal.origin),
        ):
            with ImageClient(model, api_key=key, base_url=url) as client:
                chat = client.conversation()
                for message in MESSAGES:
                    result = chat.send(message)
                    print(f"> {message}\n{result.plan}\n")
                    panels.append(result.image.pil().convert("RGB").resize((384, 384)))
    sheet = PIL.Image.new("RGB", (2 * 392 - 8, 2 * 392 - 8), "white")
    for index, panel in enumerate(panels):
        sheet.paste(panel, (392 * (index // 2), 392 * (index % 2)))
    target = folder / "demo.png"
    sheet.save(target)
    print("saved", target, "(left autoregressive, right diffusion; before above, after below)")
    return target


if __name__ == "__main__":
    main()
