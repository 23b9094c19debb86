"""Watch a picture appear: previews, and whatever else the provider tells.

OPENAI_API_KEY=... python examples/stream.py "a fox in the snow"
"""

from __future__ import annotations

import sys
from typing import Any

from diptych import Completed, ImageClient, Preview, Progress, Queued


def main(prompt: str, model: str = "openai/gpt-image-2", **settings: Any) -> None:
    with ImageClient(model, **settings) as client:
        for event in client.stream_generate(prompt, previews=2):
            match event:
                case Queued(position=position):
                    print("queued at", position)
                case Progress(done=done, total=total, unit=unit):
                    print(f"{done} of {total} {unit}")
                case Preview(image=image, index=index):
                    print("preview", image.save(f"preview-{index}"))
                case Completed(result=result):
                    print("saved", result.image.save("streamed"))


if __name__ == "__main__":
    main(sys.argv[1])
