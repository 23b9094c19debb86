"""Jobs that outlive a process: their handles as strings, without secrets."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from .composite import pad
from .errors import InvalidInput
from .image import Image
from .mask import Mask
from .plan import Finish, Plan
from .provider import Handle
from .request import Request

__all__ = ["Ticket"]

_PREFIX = "diptych1."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What another process must know to bring a job home.

    `original` and `mask` are digests of the pictures that the composite needs; the pictures
    themselves are the caller's to keep.
    """

    model: str
    mode: str
    prompt: str
    handles: tuple[Handle, ...]
    convert: str | None = None
    original: str | None = None
    mask: str | None = None
    expand: tuple[int, int, int, int] | None = None

    @classmethod
    def of(cls, plan: Plan, handles: Sequence[Handle]) -> Ticket:
        finish = plan.finish
        return cls(
            model=plan.model,
            mode=str(plan.mode),
            prompt=plan.request.prompt,
            handles=tuple(handles),
            convert=finish.convert,
            original=None if finish.original is None else finish.original.sha256,
            mask=None if finish.mask is None else _digest(finish.mask),
            expand=None if finish.expand is None else astuple(finish.expand),
        )

    def encode(self) -> str:
        """A string that is safe to log and to store."""
        fields = {
            "model": self.model,
            "mode": self.mode,
            "prompt": self.prompt,
            "handles": [handle.to_dict() for handle in self.handles],
            "convert": self.convert,
            "original": self.original,
            "mask": self.mask,
            "expand": self.expand,
        }
        data = json.dumps({name: value for name, value in fields.items() if value}).encode()
        return _PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Ticket:
        """Read a handle. Raises `InvalidInput` for anything else."""
        try:
            if not text.startswith(_PREFIX):
                raise ValueError
            body = text[len(_PREFIX) :]
            fields = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            return cls(
                model=str(fields["model"]),
                mode=str(fields["mode"]),
                prompt=str(fields["prompt"]),
                handles=tuple(Handle.from_dict(each) for each in fields["handles"]),
                convert=fields.get("convert"),
                original=fields.get("original"),
                mask=fields.get("mask"),
                expand=tuple(fields["expand"]) if "expand" in fields else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise InvalidInput(
                f"{str(text)[:60]!r} is not a job handle; pass the string of job.handle or error.handle"
            ) from None

    def finish(self, image: Image | None, mask: Mask | None, preserve: str) -> Finish:
        """The composite to make, from the pictures that the caller brought back.

        Raises `InvalidInput` when the job protects pixels and the pictures are missing or others.
        """
        if self.mask is None or preserve == "model":
            return Finish(convert=self.convert if self.mask is None else None)
        if image is not None and self.expand is not None:
            image, mask = pad(image, *self.expand)
        if image is None or mask is None:
            raise InvalidInput(
                "this job protects the pixels outside a mask; resume it with the same image= and mask=, "
                'or with preserve="model" to take the picture as the model made it'
            )
        if image.sha256 != self.original or _digest(mask) != self.mask:
            raise InvalidInput("image= and mask= are not the ones this job was submitted with")
        return Finish(original=image, mask=mask, convert=self.convert)

    def plan(self, finish: Finish) -> Plan:
        """A plan without calls: nothing is left to submit."""
        return Plan(
            model=self.model,
            mode=self.mode,
            calls=(),
            request=Request(prompt=self.prompt),
            why="resumed from its handle",
            finish=finish,
        )


def _digest(mask: Mask) -> str:
    return hashlib.sha256(mask.pil().tobytes()).hexdigest()
