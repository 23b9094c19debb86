"""The same two sentences on both paradigms, and the plan that each one gets.

OPENAI_API_KEY=... FAL_KEY=... python examples/conversation.py
"""

from __future__ import annotations

from typing import Any

from diptych import ImageClient


def converse(model: str, **settings: Any) -> None:
    with ImageClient(model, **settings) as client:
        chat = client.conversation()
        chat.send("Generate a watercolor of a fox reading a book.")
        result = chat.send("Then make a variant where it's a raccoon.")
        print(result.plan)
        print("saved", result.image.save(f"raccoon-{model.partition('/')[0]}"), "\n")


if __name__ == "__main__":
    converse("openai/gpt-image-2")
    converse("fal/flux-pro/v1.1")
