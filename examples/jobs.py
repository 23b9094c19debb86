"""Submit a job, lose the process, bring the picture home.

FAL_KEY=... python examples/jobs.py submit "a fox" > handle.txt
FAL_KEY=... python examples/jobs.py resume < handle.txt
"""

from __future__ import annotations

import sys
from typing import Any

from diptych import ImageClient


def submit(prompt: str, model: str = "fal/flux-pro/v1.1", **settings: Any) -> str:
    with ImageClient(model, **settings) as client:
        handle = client.submit(prompt).handle
        assert handle is not None
        return handle


def resume(handle: str, model: str = "fal/flux-pro/v1.1", **settings: Any) -> None:
    with ImageClient(model, **settings) as client:
        print("saved", client.resume(handle).result().image.save("resumed"))


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        print(submit(sys.argv[2]))
    else:
        resume(sys.stdin.read().strip())
