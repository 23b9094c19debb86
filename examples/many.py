"""A set of pictures within a budget; one failure does not lose the others.

OPENAI_API_KEY=... python examples/many.py
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from diptych import Budget, DiptychError, ImageClient

ANIMALS = ("fox", "raccoon", "otter", "badger")


def main(model: str = "openai/gpt-image-2", **settings: Any) -> None:
    budget = Budget(Decimal("1.00"))
    prompts = [f"a watercolor of a {animal} reading a book" for animal in ANIMALS]
    with ImageClient(model, budget=budget, **settings) as client:
        results = client.map(
            prompts, concurrency=2, on_error="return", quality="low", size="1024x1024"
        )
        for animal, result in zip(ANIMALS, results, strict=True):
            if isinstance(result, DiptychError):
                print(animal, "failed:", result)
            else:
                print(animal, "saved", result.image.save(animal), "for", result.cost)
    print("spent", budget.spent, "of", budget.limit)


if __name__ == "__main__":
    main()
