"""Change one corner and prove that nothing else moved.

FAL_KEY=... python examples/inpaint.py photo.png "a red balloon"
"""

from __future__ import annotations

import sys
from typing import Any

from PIL import ImageChops

from diptych import Image, ImageClient, Mask


def main(path: str, prompt: str, model: str = "fal/flux-pro/v1.1", **settings: Any) -> None:
    photo = Image.of(path)
    width, height = photo.size
    corner = Mask.box((width // 2, 0, width, height // 2), size=photo.size)

    with ImageClient(model, **settings) as client:
        result = client.edit(photo, prompt, mask=corner)

    difference = ImageChops.difference(
        photo.pil().convert("RGB"), result.image.pil().convert("RGB")
    )
    print("changed inside", difference.getbbox(), "of", photo.size)
    print("the model itself had changed, outside the mask:", result.outside_change)
    print("saved", result.image.save("inpainted"))


if __name__ == "__main__":
    main(*sys.argv[1:])
