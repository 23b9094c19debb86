"""Make a picture and look at what it cost.

OPENAI_API_KEY=... python examples/generate.py [MODEL]
"""

from __future__ import annotations

import sys
from typing import Any

from diptych import ImageClient


def main(model: str = "openai/gpt-image-2", **settings: Any) -> None:
    with ImageClient(model, **settings) as client:
        plan = client.plan("a watercolor of a fox reading a book", aspect="1:1")
        print(plan)

        result = plan.run()
        print("saved", result.image.save("fox"), "for", result.cost)
        for notice in result.notices:
            print(notice)


if __name__ == "__main__":
    main(*sys.argv[1:])
