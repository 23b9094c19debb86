"""`Image`: an encoded picture, kept as it was received."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast

from . import base64s, pixels
from .download import checked, download, shown
from .errors import InvalidInput
from .sniff import MAX_BYTES, MEDIA_TYPES, SUFFIXES, Header, inspect
from .sources import encoded

if TYPE_CHECKING:
    from typing import IO

    import httpx
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

__all__ = ["Image", "ImageSource"]

P = ParamSpec("P")
T = TypeVar("T")

ImageSource: TypeAlias = (
    "Image | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] "
    "| PIL.Image.Image | npt.NDArray[Any]"
)
"""What is accepted wherever a picture goes in; see `Image.of`."""

_SHOWN_BYTES = 8 * 2**20
_SHOWN_EDGE = 1024
_KEEP: Any = object()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Image:
    """An encoded picture, or the address of one that was not fetched yet. Immutable.

    Made by `Image.of`, `Image.from_url` and `Image.from_json`. The bytes are those that were
    received: nothing re-encodes them unless `convert`, `upright` or `save(convert=True)` is called.
    `seed` is the seed that made the picture, None when unknown. Images are equal when their bytes
    and their addresses are. Of an animation, the pixels are those of the first frame.
    """

    _data: builtins.bytes | None  # `bytes` is a property of this class
    _header: Header | None
    url: str | None = None
    seed: int | None = None
    _facts: dict[str, Any] = field(default_factory=dict)

    # Making one

    @classmethod
    def of(cls, source: ImageSource, *, name: str = "image") -> Image:
        """The picture that `source` holds.

        `source` is an `Image`, a path (str or `os.PathLike`), bytes, a binary file object, a
        `PIL.Image.Image`, a numpy array of shape (H, W) or (H, W, C) with C in 1, 3, 4 (uint8, or
        floats in 0..1), an http(s) URL (which is not fetched) or a data URL. Pillow images and
        arrays are encoded as PNG, with 8 or 16 bits as they are. `name` is what errors call it.

        Raises `InvalidInput` for everything else, for data that is no picture, and for pictures of
        more than 64 MiB or 2**26 pixels.
        """
        if isinstance(source, Image):
            return source
        if isinstance(source, str) and source[:8].lower().startswith(("http://", "https://")):
            return cls.from_url(source)
        try:
            return _of_bytes(encoded(source))
        except ValueError as error:
            raise InvalidInput(f"{name} is not a usable picture: {error}") from error

    @classmethod
    def from_url(cls, url: str) -> Image:
        """A picture on the web. It is not fetched: providers that take URLs get the URL.

        Raises `InvalidInput` for what is not an http(s) URL.
        """
        return cls(None, None, checked(url))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Image:
        """The inverse of `to_json`. Raises `InvalidInput`."""
        try:
            text, url = value.get("base64"), value.get("url")
            if text is None:
                image = cls.from_url(url if isinstance(url, str) else "")
            else:
                image = _of_bytes(base64s.decode(text, limit=MAX_BYTES))
                image = image if url is None else replace(image, url=checked(url))
            seed = value.get("seed")
            if seed is not None and not isinstance(seed, int):
                raise TypeError(f"seed={seed!r} is no whole number")
            return image.with_(seed=seed, provenance=value.get("provenance") or {})
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"this is not the JSON of an image, a mapping with base64 or url: {error}"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain values: base64 and format, or url; and seed and provenance if known."""
        value: dict[str, Any] = {}
        if self._data is not None:
            value |= {"format": self.format, "base64": base64s.encode(self._data)}
        if self.url is not None:
            value["url"] = self.url
        if self.seed is not None:
            value["seed"] = self.seed
        if self._facts:
            value["provenance"] = dict(self._facts)
        return value

    def with_(self, *, seed: int | None = _KEEP, provenance: Mapping[str, Any] = _KEEP) -> Image:
        """The same picture with another seed, or with other provenance in place of its own."""
        facts = dict(self._facts if provenance is _KEEP else provenance)
        facts.pop("signed", None)  # that is read from the bytes, not said about them
        return replace(self, seed=self.seed if seed is _KEEP else seed, _facts=facts)

    # Fetching

    @property
    def is_fetched(self) -> bool:
        """Whether the bytes are here. False only for a URL that was not fetched."""
        return self._data is not None

    async def afetch(self, client: httpx.AsyncClient | None = None, timeout: float = 60.0) -> Image:
        """A copy of this image that has its bytes; the image itself when it has them already.

        `timeout` in seconds bounds the whole download. At most 5 redirects are followed, none from
        https to http and none from the public internet into a private network, and at most 64 MiB
        are read. Raises `InvalidInput` (no picture there, too large, HTTP 4xx),
        `Unavailable` (network, HTTP 5xx or 429) and `DeadlineExceeded`.
        """
        if self._data is not None or self.url is None:
            return self
        data = await download(self.url, client=client, timeout=timeout)
        try:
            return replace(self, _data=data, _header=inspect(data))
        except ValueError as error:
            raise InvalidInput(f"{shown(self.url)} is not a usable picture: {error}") from error

    def fetch(self, timeout: float = 60.0) -> Image:
        """`afetch` for code that is not async; it works inside a notebook too."""
        if self._data is not None:
            return self
        from .portal import PORTAL

        PORTAL.acquire()
        try:
            return PORTAL.call(self.afetch(timeout=timeout))
        finally:
            PORTAL.release()

    # Facts

    @property
    def bytes(self) -> builtins.bytes:
        """The encoded picture as it was received. Raises `InvalidInput` when it was not fetched."""
        if self._data is None:
            raise InvalidInput(
                f"the picture at {shown(self.url or '')} was not fetched; call image.fetch() or "
                "await image.afetch() first, and use the image that it returns"
            )
        return self._data

    @property
    def _known(self) -> Header:
        """The header; raises like `bytes`."""
        if self._header is None:
            _ = self.bytes
        return cast("Header", self._header)

    @property
    def format(self) -> str:
        """One of png, jpeg, webp, gif, svg, avif, bmp, tiff: what the bytes are."""
        return self._known.format

    @property
    def media_type(self) -> str:
        """For instance image/png."""
        return MEDIA_TYPES[self.format]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels as displayed: the EXIF orientation is applied."""
        return self._known.size

    @property
    def width(self) -> int:
        return self._known.width

    @property
    def height(self) -> int:
        return self._known.height

    @property
    def orientation(self) -> int:
        """The EXIF orientation of the stored pixels, 1 (upright) to 8."""
        return self._known.orientation

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the picture came from: model, prompt, request id, as far as known.

        `provenance["signed"]` tells whether the bytes carry a C2PA manifest (its signature is not
        verified); it is there once the picture is fetched.
        """
        signed = {} if self._header is None else {"signed": self._header.signed}
        return MappingProxyType({**self._facts, **signed})

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal."""
        import hashlib

        return hashlib.sha256(self.bytes).hexdigest()

    # Pixels

    def pil(self) -> PIL.Image.Image:
        """A new Pillow image, upright and loaded, in the picture's own mode.

        Raises `InvalidInput` for an SVG and for data that is broken or cut short.
        """
        return self._checked(pixels.decode, self.bytes, self._known)

    def numpy(self) -> npt.NDArray[np.uint8]:
        """A new array (H, W, C) of uint8, upright; C is 4 with transparency and 3 without.

        16-bit channels are scaled to 8. Raises what `pil` raises; numpy must be installed.
        """
        import numpy as np

        return np.array(self._rgb())

    def verify(self) -> Image:
        """Decode the whole picture and return it. Raises `InvalidInput` when that fails.

        An SVG is parsed as XML instead.
        """
        if self.format != "svg":
            self.pil()
            return self
        from xml.parsers import expat

        try:
            expat.ParserCreate().Parse(self.bytes, True)
        except expat.ExpatError as error:
            raise InvalidInput(f"the image is not a usable picture: {error}") from error
        return self

    def _rgb(self) -> PIL.Image.Image:
        """The pixels in RGB or RGBA with 8 bits per channel."""
        return self._checked(pixels.rgb, self.pil())

    def _checked(self, step: Callable[P, T], *values: P.args, **options: P.kwargs) -> T:
        try:
            return step(*values, **options)
        except ValueError as error:
            raise InvalidInput(f"{self!r} is not usable here: {error}") from error

    def convert(self, format: str, *, background: str | None = None, **encode: Any) -> Image:
        """The picture in another format: png, jpeg, webp, gif, avif, bmp or tiff.

        `encode` goes to Pillow's encoder (quality, lossless, ...); without it, and without
        `background`, a picture that has the format already is returned as it is. `background` is
        the colour, as a name or as "#rrggbb", that shows through where the picture is transparent;
        JPEG and BMP need it for a picture that is. Raises `InvalidInput`.
        """
        kind = SUFFIXES.get(f".{format.lower()}", format)
        if kind == self.format and background is None and not encode:
            return self
        data = self._checked(pixels.encode, self.pil(), kind, background=background, **encode)
        return replace(self, _data=data, _header=self._checked(inspect, data), url=None)

    def upright(self) -> Image:
        """The image itself, or one with the EXIF orientation applied to the pixels, encoded anew.

        For receivers that ignore EXIF. JPEG, WebP and AVIF pictures lose a little by it.
        """
        if self.orientation == 1:
            return self
        data = self._checked(pixels.encode, self.pil(), self.format)
        return replace(self, _data=data, _header=self._checked(inspect, data), url=None)

    # Out

    def save(
        self, path: str | os.PathLike[str], *, convert: bool = False, overwrite: bool = True
    ) -> Path:
        """Write the picture and return where; a path without a suffix gets the right one.

        The bytes are written as they are, so the suffix must fit them; `convert=True` re-encodes
        where it does not. The file appears whole or not at all. Raises `InvalidInput`, and `OSError`
        when writing fails.
        """
        target = Path(path)
        if target.is_dir():
            raise InvalidInput(f"{str(target)!r} is a folder; add a file name")
        if not target.suffix:
            target = target.with_name(f"{target.name}.{self.format}")
        kind = SUFFIXES.get(target.suffix.lower())
        if kind is None:
            raise InvalidInput(
                f"{target.suffix!r} is no suffix of a picture; use one of {', '.join(SUFFIXES)}, or none"
            )
        if kind != self.format and not convert:
            raise InvalidInput(
                f"the picture is {self.format}, so it is not written as {target.name}; "
                f"use {target.with_suffix('.' + self.format).name}, or convert=True to re-encode it"
            )
        if not target.parent.is_dir():
            raise InvalidInput(f"there is no folder {str(target.parent)!r}; make it first")
        data = self.convert(kind).bytes
        if not overwrite:
            try:
                target.touch(exist_ok=False)  # takes the name, so that nobody else can
            except FileExistsError:
                raise InvalidInput(f"{str(target)!r} exists, and overwrite=False") from None
        draft = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
        try:
            draft.write_bytes(data)
            draft.replace(target)
        except OSError:
            draft.unlink(missing_ok=True)
            if not overwrite:
                target.unlink(missing_ok=True)
            raise
        return target

    def data_url(self) -> str:
        """The bytes as a data URL."""
        return f"data:{self.media_type};base64,{base64s.encode(self.bytes)}"

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed={self.seed}"
        if self._header is None or self._data is None:
            return f"<Image {shown(self.url or '')}, not fetched{seed}>"
        count = len(self._data)
        weight = f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
        return f"<Image {self.format} {self.width}x{self.height}, {weight}{seed}>"

    def _repr_png_(self) -> builtins.bytes | None:
        """The bytes for a notebook, if they are a PNG of no more than 8 MiB."""
        small = self._data is not None and len(self._data) <= _SHOWN_BYTES
        return self._data if small and self.format == "png" else None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """For notebooks: the picture, or a small preview of it when it has more than 8 MiB."""
        bundle = {"text/plain": repr(self)}
        if self._data is None:
            return bundle
        image = self
        if len(self._data) > _SHOWN_BYTES and self.format != "svg":
            image = self._preview()
        if image.format in ("png", "jpeg"):
            bundle[image.media_type] = base64s.encode(image.bytes)
        elif len(image.bytes) <= _SHOWN_BYTES:
            # An <img> shows every format that the browser knows and runs no script of an SVG.
            bundle["text/html"] = f'<img src="{image.data_url()}" alt="{image.format}">'
        return bundle

    def _preview(self) -> Image:
        small = self._rgb()
        small.thumbnail((_SHOWN_EDGE, _SHOWN_EDGE))
        return Image.of(small)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return (self._data, self.url) == (other._data, other.url)

    def __hash__(self) -> int:
        return hash((self._data, self.url))


def _of_bytes(data: bytes) -> Image:
    return Image(data, inspect(data))
