"""The same two sentences to any model, and the plan that the second one gets.

python examples/conversation.py [MODEL ...]    # the pocket models when none is named
"""

from __future__ import annotations

import sys
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
    for name in sys.argv[1:] or ("autoregressive/pocket", "diffusers/pocket"):
        converse(name)
