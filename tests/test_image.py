from __future__ import annotations

import asyncio
import base64
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageOps

from diptych import base64s, sniff
from diptych.errors import DeadlineExceeded, InvalidInput, Unavailable
from diptych.image import Image, ImageSource

RASTER = ["png", "jpeg", "webp", "gif", "avif", "bmp", "tiff"]
ORIENTED = ["png", "jpeg", "webp", "avif", "tiff"]
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect/></svg>'
C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def drawn(width: int = 7, height: int = 5, mode: str = "RGB") -> PIL.Image.Image:
    ramp = np.linspace(0, 255, width * height * 3).astype(np.uint8).reshape(height, width, 3)
    return PIL.Image.fromarray(ramp).convert(mode)


def encoded(picture: PIL.Image.Image, kind: str = "png", **options: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind.upper(), **options)
    return target.getvalue()


def turned(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[274] = orientation
    return exif


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of_size(width: int, height: int) -> bytes:
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 16))
        + chunk(b"IEND")
    )


# What goes in


@pytest.fixture
def fox(tmp_path: Path) -> Path:
    path = tmp_path / "fox.png"
    path.write_bytes(encoded(drawn()))
    return path


def test_every_kind_of_source_gives_the_same_pixels(fox: Path) -> None:
    data, pixels = fox.read_bytes(), np.array(drawn())
    sources: list[ImageSource] = [
        Image.of(data),
        fox,
        str(fox),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        drawn(),
        pixels,
        pixels.astype(np.float64) / 255,
        "data:image/png;base64," + base64.b64encode(data).decode(),
        "DATA:;BASE64," + base64.b64encode(data).decode(),
    ]
    for source in sources:
        assert np.array_equal(Image.of(source).numpy(), pixels), source


def test_bytes_are_kept_as_received() -> None:
    for kind in RASTER:
        data = encoded(drawn(), kind)
        image = Image.of(data)
        assert image.bytes == data
        assert (image.format, image.media_type) == (kind, f"image/{kind}")


def test_an_announced_type_is_not_believed(tmp_path: Path) -> None:
    data = encoded(drawn(), "jpeg")
    path = tmp_path / "liar.png"
    path.write_bytes(data)
    assert Image.of(path).format == "jpeg"
    assert (
        Image.of("data:image/png;base64," + base64.b64encode(data).decode()).media_type
        == "image/jpeg"
    )


def test_a_percent_encoded_data_url_is_read() -> None:
    image = Image.of("data:image/svg+xml,%3Csvg width='4' height='3'/%3E")
    assert (image.format, image.size) == ("svg", (4, 3))


def test_a_file_that_gives_its_bytes_in_pieces_is_read_whole() -> None:
    data = encoded(drawn())

    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.left = data

        def read(self, size: int = -1) -> bytes:
            part, self.left = self.left[:10], self.left[10:]
            return part

    assert Image.of(Slow()).bytes == data  # type: ignore[arg-type]  # a raw file is a file too


def test_an_array_may_be_grey_colour_or_transparent() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(Image.of(grey).numpy(), np.repeat(grey[:, :, None], 3, axis=2))
    assert Image.of(grey[:, :, None]) == Image.of(grey)
    assert Image.of(grey).size == (4, 3)
    clear = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(Image.of(clear).numpy(), clear)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_array_survives_the_round_trip(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12)))
    channels = data.draw(st.sampled_from([3, 4]))
    seed = data.draw(st.integers(0, 2**31))
    array = np.random.default_rng(seed).integers(0, 256, (*shape, channels), dtype=np.uint8)
    assert np.array_equal(Image.of(array).numpy(), array)
    assert np.array_equal(Image.of(array.astype(np.float32) / 255).numpy(), array)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((4, 4), dtype=bool), "Mask.from_array"),
        (np.zeros((4, 4), dtype=np.int32), "int32"),
        (np.full((2, 2, 3), 1.5), "0..1"),
        (np.full((2, 2, 3), -0.1), "0..1"),
        (np.full((2, 2, 3), np.nan), "0..1"),
        (np.full((2, 2, 3), np.inf), "0..1"),
        (np.zeros((2, 2, 2), np.uint8), "channels"),
        (np.zeros((3, 8, 8), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros(8, np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "4x0 pixels"),
        (PIL.Image.new("RGB", (0, 4)), "0x4 pixels"),
        (PIL.Image.new("F", (2, 2)), "floating-point"),
        (PIL.Image.new("I", (2, 2), 70_000), "70000"),
        (b"", "empty"),
        (io.BytesIO(), "seek(0)"),
        (io.StringIO("text"), "binary mode"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b'{"error": {}}', "JSON"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"nothing at all", "no known format"),
        ("no/such/file.png", "cannot be read"),
        ("~nobody_of_this_name/fox.png", "cannot be read"),
        ("A" * 5000, "cannot be read"),
        ("data:image/png;base64", "comma"),
        ("data:image/png;base64,####", "base64"),
        ("https:///fox.png", "host"),
        ("https://[::1/fox.png", "host"),
        (42, "a numpy array"),
        (None, "a path"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(source: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(says)) as raised:
        Image.of(source, name="reference 2")
    assert len(str(raised.value)) < 500
    if not isinstance(source, str) or not source.startswith("http"):
        assert "reference 2" in str(raised.value)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="directory"):
        Image.of(tmp_path)


def test_pillow_images_keep_their_depth_and_lose_their_orientation(fox: Path) -> None:
    deep = PIL.Image.fromarray(np.array([[0, 65535], [4660, 1]], np.uint16))
    assert np.array_equal(np.array(Image.of(deep).pil()), np.array(deep))
    wide = PIL.Image.fromarray(np.array([[0, 65535]], np.int32))
    assert Image.of(wide).pil().getextrema() == (0, 65535)
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        assert Image.of(drawn(mode=mode)).size == (7, 5)
    for kind in ("jpeg", "tiff"):
        opened = PIL.Image.open(io.BytesIO(encoded(drawn(), kind, exif=turned(6))))
        image = Image.of(opened)
        assert (image.size, image.orientation) == ((5, 7), 1)


def test_a_broken_pillow_image_is_refused() -> None:
    data = encoded(drawn(64, 64), "jpeg")
    with pytest.raises(InvalidInput, match="cut short"):
        Image.of(PIL.Image.open(io.BytesIO(data[:-200])))


# What the header says


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RASTER),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(["L", "RGB", "RGBA", "P"]),
    st.integers(1, 8),
    st.booleans(),
)
def test_every_header_says_what_pillow_says(
    kind: str, width: int, height: int, mode: str, orientation: int, lossless: bool
) -> None:
    picture = drawn(width, height, mode)
    if kind in ("jpeg", "avif", "webp"):
        picture = picture.convert("RGBA" if mode == "RGBA" and kind != "jpeg" else "RGB")
    options: dict[str, Any] = {"lossless": lossless} if kind == "webp" else {}
    if kind in ORIENTED and orientation > 1:
        options["exif"] = turned(orientation)
    data = encoded(picture, kind, **options)
    expected = ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    image = Image.of(data)
    assert image.format == kind
    assert image.size == expected.size == (image.width, image.height)
    assert image.orientation == (orientation if kind in ORIENTED else 1)
    shown = image.pil()
    assert shown.size == expected.size
    assert shown.convert("RGBA").tobytes() == expected.convert("RGBA").tobytes()
    assert shown.getexif().get(274, 1) == 1


def test_a_png_of_any_size_is_measured_without_decoding() -> None:
    assert sniff.inspect(png_of_size(8192, 8192)).size == (8192, 8192)


def test_a_bomb_is_refused_from_its_header() -> None:
    for data in (png_of_size(8193, 8192), png_of_size(2**31 - 1, 1)):
        with pytest.raises(InvalidInput, match="pixels"):
            Image.of(data)
    with pytest.raises(InvalidInput, match="8192x8193 pixels"):
        Image.of(np.broadcast_to(np.uint8(0), (8193, 8192)))
    huge = PIL.Image.open(io.BytesIO(png_of_size(8193, 8192)))
    with pytest.raises(InvalidInput, match="8193x8192"):
        Image.of(huge)


def test_too_many_bytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InvalidInput, match="limit"):
        Image.of(path)
    with pytest.raises(InvalidInput, match="67,108,864"):
        Image.of(b"\x89PNG\r\n\x1a\n" + bytes(sniff.MAX_BYTES))
    with pytest.raises(InvalidInput, match="limit"):
        Image.of("data:;base64," + "A" * (sniff.MAX_BYTES // 3 * 4 + 8))
    with pytest.raises(InvalidInput, match="characters"):
        Image.of("data:," + "A" * (3 * sniff.MAX_BYTES + 1))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "avif", "bmp", "tiff"])
def test_a_picture_that_is_cut_short_is_found_out(kind: str) -> None:
    data = encoded(drawn(64, 48), kind)
    for end in range(1, len(data) * 3 // 4, max(1, len(data) // 60)):
        with pytest.raises(InvalidInput):
            Image.of(data[:end]).verify()
    assert Image.of(data).verify() == Image.of(data)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*RASTER, "svg"]), st.data())
def test_damaged_data_never_escapes_as_another_error(kind: str, data: st.DataObject) -> None:
    good = SVG if kind == "svg" else encoded(drawn(24, 16), kind)
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = Image.of(bytes(bad)).verify()
    except InvalidInput:
        return
    if image.format != "svg":
        assert image.pil().size == image.size


def test_malformed_headers_are_named() -> None:
    png, webp = png_of_size(1, 1), encoded(drawn(), "webp")
    cases = {
        png[:40]: "cut short",
        png[:12] + b"IDAT" + png[16:]: "header",
        png_of_size(0, 4): "0x4",
        png[:33]: "no end",
        png[:33] + chunk(b"teXt") * (2**17): "chunks",
        b"\xff\xd8\xff\xe0": "cut short",
        b"\xff\xd8\xff\xd9": "first scan",
        b"\xff\xd8\xff\xff\xff\x01" + b"\xff\xe1\x00\x02": "first scan",
        webp[:-9]: "cut short",
        b"RIFF\x04\0\0\0WEBP": "no picture in it",
        b"RIFF\x0c\0\0\0WEBPJUNK\0\0\0\0": "no picture",
        b"GIF89a\x01": "cut short",
        b"BM" + bytes(12) + b"\x28\0\0\0": "cannot be read",
        b"\0\0\0\x10ftypavif" + bytes(4): "cannot be read",
        b"II*\0" + bytes(8): "cannot be read",
        b"<svg" + b"\0": "no known format",
        b"<!-- no end": "no known format",
    }
    for data, says in cases.items():
        with pytest.raises(InvalidInput, match=says):
            Image.of(data)


def test_data_that_is_not_of_the_announced_size_is_refused() -> None:
    data = bytearray(encoded(drawn(8, 8), "gif"))
    data[6:10] = struct.pack("<2H", 4, 4)  # the screen; the frame still has 8x8
    with pytest.raises(InvalidInput, match="its header says 4x4"):
        Image.of(bytes(data)).pil()


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_both_byte_orders_is_read(order: str) -> None:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHI4x", 0x010F, 2, 0) + struct.pack(
        order + "HHIH2x", 0x0112, 3, 1, 8
    )
    block = magic + struct.pack(order + "IH", 8, 2) + entries
    assert sniff.exif_orientation(b"Exif\0\0" + block) == 8
    assert sniff.exif_orientation(block[:20]) == 1
    assert sniff.exif_orientation(magic + struct.pack(order + "IH", 8, 0)) == 1
    assert (
        sniff.exif_orientation(block.replace(struct.pack(order + "H", 8) + b"\0\0", bytes(4))) == 1
    )
    assert sniff.exif_orientation(b"nothing") == 1


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ('<svg width="40" height="30">', (40, 30)),
        ("<svg width='4in' height='25.4mm'>", (384, 96)),
        ('<svg width="72pt" height="1e2">', (96, 100)),
        ('<svg viewBox="0 0 200 100">', (200, 100)),
        ('<svg width="50" viewBox="0,0,200,100">', (50, 25)),
        ('<svg height="50px" viewBox="0 0 200 100">', (100, 50)),
        ('<svg width="100%" height="100%" viewBox="0 0 64 32">', (64, 32)),
        ('<svg width="0" height="1e99">', (300, 150)),
        ('<svg viewBox="0 0 wide high">', (300, 150)),
        ('<svg viewBox="0 0">', (300, 150)),
        ("<svg>", (300, 150)),
        (
            '\ufeff<?xml version="1.0"?>\n<!-- a > b --><!DOCTYPE svg [<!ENTITY a "b">]>'
            '<x:svg xmlns:x="y" width="3" height="2">',
            (3, 2),
        ),
        ('<!DOCTYPE svg PUBLIC "a" "b"> <svg width="3" height="2">', (3, 2)),
    ],
)
def test_an_svg_has_the_size_of_its_root(head: str, size: tuple[int, int]) -> None:
    assert Image.of(head.encode()).size == size


def test_an_svg_has_no_pixels_but_can_be_verified() -> None:
    image = Image.of(SVG)
    assert (image.media_type, image.verify()) == ("image/svg+xml", image)
    with pytest.raises(InvalidInput, match="rasterise"):
        image.pil()
    with pytest.raises(InvalidInput, match="not a usable picture"):
        Image.of(SVG[:-3]).verify()


def signed(kind: str) -> bytes:
    """A picture with what C2PA embeds, as far as it is looked at."""
    data = encoded(drawn(), kind, **({"exif": turned(1)} if kind == "webp" else {}))
    if kind == "png":
        return data[:33] + chunk(b"caBX", b"jumb") + data[33:]
    if kind == "jpeg":
        body = b"JP\0\1\0\0\0\1\0\0\0\x20jumb\0\0\0\x18jumdc2pa"
        return data[:2] + b"\xff\xeb" + struct.pack(">H", len(body) + 2) + body + data[2:]
    if kind == "webp":
        body = data[8:] + b"C2PA" + struct.pack("<I", 4) + b"abcd"
        return b"RIFF" + struct.pack("<I", len(body)) + body
    return data + struct.pack(">I", 28) + b"uuid" + C2PA_BOX + bytes(4)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif"])
def test_a_manifest_is_noticed_and_a_reencoded_picture_has_none(kind: str) -> None:
    image = Image.of(signed(kind)).with_(provenance={"model": "m", "signed": "no"})
    assert dict(image.provenance) == {"model": "m", "signed": True}
    assert image.convert("bmp").provenance["signed"] is False
    assert Image.of(encoded(drawn(), kind)).provenance["signed"] is False


def test_other_jumbf_is_no_manifest() -> None:
    data = signed("jpeg").replace(b"c2pa", b"snak")
    assert Image.of(data).provenance["signed"] is False
    other = signed("avif").replace(C2PA_BOX, bytes(16)) + bytes(4) + b"free" + bytes(32)
    assert Image.of(other).provenance["signed"] is False


# A value


def test_equal_bytes_are_equal_pictures() -> None:
    data = encoded(drawn())
    one, two = Image.of(data), Image.of(data).with_(seed=3)
    assert one == two
    assert len({one, two, Image.of(encoded(drawn(8, 8)))}) == 2
    assert one != data
    assert one.sha256 == two.sha256
    assert len(one.sha256) == 64


def test_it_cannot_be_changed() -> None:
    image = Image.of(drawn())
    with pytest.raises(AttributeError):
        image.seed = 3  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        image.provenance["model"] = "x"  # type: ignore[index]  # the point of the test
    image.pil().paste(0, (0, 0, 7, 5))
    image.numpy()[:] = 0
    assert image.numpy().max() == 255


def test_seed_and_provenance_travel() -> None:
    image = Image.of(drawn()).with_(seed=7, provenance={"prompt": "a fox"})
    for copy in (
        pickle.loads(pickle.dumps(image)),
        Image.from_json(json.loads(json.dumps(image.to_json()))),
        image.convert("webp"),
        image.with_(),
    ):
        assert (copy.seed, copy.provenance["prompt"]) == (7, "a fox")
    assert Image.from_json(image.to_json()) == image
    assert image.with_(seed=None).seed is None
    assert "seed" not in Image.of(drawn()).to_json()


def test_an_address_travels_too() -> None:
    image = Image.from_url("https://example.org/fox.png")
    assert Image.from_json(image.to_json()) == image
    both = Image.of(drawn()).to_json() | {"url": image.url}
    assert Image.from_json(both).url == image.url
    assert Image.from_json(both).is_fetched


@pytest.mark.parametrize(
    "value", [{}, {"base64": "?"}, {"base64": 3}, {"base64": "AAAA"}, {"url": 3}, 4, {"seed": "x"}]
)
def test_json_of_something_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        Image.from_json(value)
    with pytest.raises(InvalidInput):
        Image.from_json({"seed": "x", **Image.of(drawn()).to_json()} | {"seed": "x"})


def test_its_text_is_short_and_holds_no_bytes_and_no_signature() -> None:
    assert repr(Image.of(drawn()).with_(seed=7)).startswith("<Image png 7x5, 0.")
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert "MB" in repr(Image.of(noise))
    image = Image.from_url("https://me:secret@example.org/fox.png?X-Amz-Signature=secret#secret")
    assert repr(image) == "<Image https://example.org/fox.png, not fetched>"
    assert len(repr(Image.from_url("https://example.org/" + "a" * 4000))) < 200
    with pytest.raises(InvalidInput) as raised:
        _ = image.size
    assert "secret" not in str(raised.value)
    assert "fetch()" in str(raised.value)
    for use in (image.pil, image.data_url, image.upright, lambda: image.bytes):
        with pytest.raises(InvalidInput, match="fetch"):
            cast("Callable[[], object]", use)()
    assert dict(image.provenance) == {}


# What comes out


def test_a_path_without_suffix_gets_the_right_one(tmp_path: Path) -> None:
    for kind in RASTER:
        image = Image.of(encoded(drawn(), kind))
        written = image.save(tmp_path / "fox")
        assert written == tmp_path / f"fox.{kind}"
        assert written.read_bytes() == image.bytes
    assert Image.of(encoded(drawn(), "jpeg")).save(f"{tmp_path}/a.JPG").name == "a.JPG"


def test_bytes_are_not_written_under_a_wrong_suffix(tmp_path: Path) -> None:
    image = Image.of(encoded(drawn(), "jpeg"))
    with pytest.raises(InvalidInput, match="convert=True"):
        image.save(tmp_path / "fox.png")
    with pytest.raises(InvalidInput, match=r"\.xyz"):
        image.save(tmp_path / "fox.xyz")
    with pytest.raises(InvalidInput, match="folder"):
        image.save(tmp_path / "no" / "fox.jpg")
    with pytest.raises(InvalidInput, match="file name"):
        image.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    written = image.save(tmp_path / "fox.png", convert=True)
    assert np.array_equal(Image.of(written).numpy(), image.numpy())
    assert Image.of(written).format == "png"


def test_nothing_is_overwritten_against_the_will(tmp_path: Path) -> None:
    path = Image.of(drawn()).save(tmp_path / "fox.png", overwrite=False)
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="exists"):
        Image.of(drawn(9, 9)).save(path, overwrite=False)
    assert path.read_bytes() == before
    Image.of(drawn(9, 9)).save(path)
    assert Image.of(path).size == (9, 9)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        Image.of(drawn()).save(tmp_path / "fox.png", overwrite=overwrite)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", RASTER)
def test_conversion_gives_the_format_that_was_asked_for(kind: str) -> None:
    image = Image.of(drawn(32, 24))
    other = image.convert(kind)
    assert (other.format, other.size) == (kind, (32, 24))
    if kind != "gif":
        assert np.abs(other.numpy().astype(int) - image.numpy()).mean() < 4
    assert image.convert("png") is image
    assert image.convert("png", compress_level=9) is not image
    assert image.convert("JPG").format == "jpeg"


def test_transparency_is_not_lost_in_silence() -> None:
    clear = PIL.Image.new("RGBA", (4, 3), (255, 0, 0, 0))
    image = Image.of(clear)
    for kind in ("jpeg", "bmp"):
        with pytest.raises(InvalidInput, match="background"):
            image.convert(kind)
        white = image.convert(kind, background="white")
        assert white.numpy().min() >= 254
    blue = image.convert("png", background="#0000ff").numpy()
    assert blue.shape == (3, 4, 3)
    assert (blue == (0, 0, 255)).all()
    opaque = Image.of(PIL.Image.new("RGBA", (4, 3), (9, 9, 9, 255)))
    assert opaque.convert("bmp").numpy().max() == 9
    assert Image.of(drawn()).convert("bmp", background="white").numpy().shape == (5, 7, 3)
    assert image.convert("webp", lossless=True).numpy()[0, 0, 3] == 0


def test_conversion_refuses_what_it_cannot_do() -> None:
    image = Image.of(drawn())
    asks: list[Callable[[], Image]] = [
        lambda: image.convert("svg"),
        lambda: image.convert("jpeg2000"),
        lambda: image.convert("webp", quality="no"),
        lambda: image.convert("png", background="no colour"),
        lambda: Image.of(SVG).convert("png"),
    ]
    for ask in asks:
        with pytest.raises(InvalidInput):
            ask()


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert Image.of(PIL.Image.fromarray(deep)).numpy()[0, :, 0].tolist() == [0, 1, 128, 255]
    tiff = Image.of(encoded(PIL.Image.fromarray(deep.astype(np.int32)), "tiff"))
    assert tiff.numpy()[0, :, 0].tolist() == [0, 1, 128, 255]
    high = Image.of(encoded(PIL.Image.new("I", (2, 2), 70_000), "tiff"))
    with pytest.raises(InvalidInput, match="70000"):
        high.numpy()


def test_a_palette_with_a_transparent_colour_becomes_rgba() -> None:
    palette = PIL.Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    image = Image.of(encoded(palette, "png", transparency=0))
    assert image.numpy()[0].tolist() == [[10, 20, 30, 0], [40, 50, 60, 255]]
    keyed = Image.of(
        encoded(PIL.Image.new("RGB", (1, 1), (1, 2, 3)), "png", transparency=(1, 2, 3))
    )
    assert keyed.numpy()[0, 0, 3] == 0


def test_a_colour_profile_is_kept_where_it_fits() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.of(encoded(drawn(), "png", icc_profile=profile))
    assert image.convert("webp").pil().info["icc_profile"] == profile
    grey = Image.of(encoded(drawn(mode="L"), "png", icc_profile=profile))
    assert "icc_profile" not in grey.pil().info


@pytest.mark.parametrize("kind", ORIENTED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_pictures_look_the_same_and_need_no_exif(kind: str, orientation: int) -> None:
    image = Image.of(encoded(drawn(32, 16), kind, exif=turned(orientation)))
    upright = image.upright()
    assert (upright.format, upright.size, upright.orientation) == (kind, image.size, 1)
    assert (upright is image) == (orientation == 1)
    assert np.abs(upright.numpy().astype(int) - image.numpy()).mean() < 6


def test_notebooks_get_the_bytes_or_a_preview() -> None:
    png = Image.of(drawn())
    assert png._repr_png_() == png.bytes
    assert base64.b64decode(png._repr_mimebundle_()["image/png"]) == png.bytes
    jpeg = png.convert("jpeg")
    assert jpeg._repr_png_() is None
    assert "image/jpeg" in jpeg._repr_mimebundle_()
    for other in (png.convert("avif"), Image.of(SVG)):
        page = other._repr_mimebundle_()["text/html"]
        assert page.startswith(f'<img src="data:{other.media_type};base64,')
        assert "<svg" not in page
    remote = Image.from_url("https://example.org/fox.png")
    assert set(remote._repr_mimebundle_()) == {"text/plain"}
    assert remote._repr_png_() is None
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    bundle = Image.of(noise)._repr_mimebundle_()
    assert Image.of(noise)._repr_png_() is None
    assert Image.of(base64.b64decode(bundle["image/png"])).size == (1024, 1024)
    drawing = Image.of(SVG[:-6] + b"<g/>" * 2**21 + b"</svg>")
    assert set(drawing._repr_mimebundle_()) == {"text/plain"}


def test_importing_and_sniffing_load_no_pillow_and_no_numpy(fox: Path) -> None:
    code = (
        "import sys; from diptych.image import Image; from diptych.mask import Mask\n"
        f"image = Image.of({str(fox)!r}); image.size, image.sha256, image.data_url(), repr(image)\n"
        "bad = {'PIL', 'numpy', 'httpx', 'anyio', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Fetching


class Host:
    """A web server of one's own; `routes` maps a path to what answers it."""

    def __init__(self) -> None:
        self.routes: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.release = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.seen.append((self.path, dict(self.headers.items())))
                host.routes[self.path.partition("?")[0]](self)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str = "/fox") -> str:
        return self.base + path

    def answer(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.routes[path] = respond

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def host() -> Iterator[Host]:
    server = Host()
    yield server
    server.close()


def test_a_url_is_fetched_only_when_asked(host: Host) -> None:
    data = encoded(drawn(), "jpeg")
    host.answer("/fox", data, Content_Type="image/png")
    image = Image.of(host.url("/fox?token=1")).with_(seed=5)
    assert (image.is_fetched, host.seen) == (False, [])
    here = image.fetch()
    assert not image.is_fetched
    assert (here.bytes, here.format, here.url, here.seed) == (data, "jpeg", image.url, 5)
    assert here.fetch() is here
    assert asyncio.run(here.afetch()) is here
    assert len(host.seen) == 1


def test_a_url_is_fetched_from_inside_a_running_loop(host: Host) -> None:
    host.answer("/fox", encoded(drawn()))

    async def both() -> tuple[Image, Image]:
        image = Image.from_url(host.url())
        async with httpx.AsyncClient() as client:
            return image.fetch(), await image.afetch(client)

    one, two = asyncio.run(both())
    assert one == two


def test_redirects_are_followed_five_times_and_without_credentials(host: Host) -> None:
    host.answer("/5", encoded(drawn()))
    for hop in range(5):
        host.answer(f"/{hop}", status=302, Location=f"/{hop + 1}")
    host.answer("/start", status=307, Location=host.url("/0"))

    async def fetch() -> Image:
        headers = {"Authorization": "Key secret", "X-Key": "secret"}
        async with httpx.AsyncClient(headers=headers, cookies={"k": "secret"}) as client:
            return await Image.from_url(host.url("/0")).afetch(client)

    assert asyncio.run(fetch()).size == (7, 5)
    assert "secret" in str(host.seen[0])
    assert "secret" not in str(host.seen[1:])
    with pytest.raises(InvalidInput, match="more than 5"):
        Image.from_url(host.url("/start")).fetch()


class Web(httpx.AsyncBaseTransport):
    """The public web as far as a test can have one: names that only this transport knows."""

    def __init__(self, **redirects: str) -> None:
        self.redirects = redirects
        self.seen: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(str(request.url))
        target = self.redirects.get(request.url.path.strip("/"))
        if target is None:
            return httpx.Response(200, content=encoded(drawn()))
        return httpx.Response(302, headers={"Location": target})


def fetched(web: Web, url: str) -> Image:
    async def fetch() -> Image:
        async with httpx.AsyncClient(transport=web) as client:
            return await Image.from_url(url).afetch(client)

    return asyncio.run(fetch())


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1/fox",
        "https://localhost:8443/fox",
        "https://10.1.2.3/fox",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/fox",
        "https://[::ffff:192.168.0.1]/fox",
        "https://metadata.google.internal/computeMetadata",
        "https://printer.local/fox",
        "https://router/fox",
    ],
)
def test_a_public_address_does_not_redirect_into_a_private_network(target: str) -> None:
    web = Web(fox=target)
    with pytest.raises(InvalidInput, match="inside a network"):
        fetched(web, "https://pictures.invalid/fox")
    assert web.seen == ["https://pictures.invalid/fox"]


def test_https_does_not_redirect_to_http() -> None:
    web = Web(fox="http://pictures.invalid/there")
    with pytest.raises(InvalidInput, match="from https to http"):
        fetched(web, "https://pictures.invalid/fox")
    assert fetched(Web(fox="https://pictures.invalid/there"), "http://pictures.invalid/fox").size


def test_a_private_address_that_the_caller_gave_may_redirect_to_another() -> None:
    assert fetched(Web(fox="http://10.1.2.3/there"), "http://192.168.0.1/fox").size == (7, 5)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/fox", "data:,x"])
def test_redirects_lead_to_http_only(host: Host, target: str) -> None:
    host.answer("/fox", status=302, Location=target)
    with pytest.raises(InvalidInput, match="http://"):
        Image.from_url(host.url()).fetch()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, InvalidInput),
        (404, InvalidInput),
        (204, InvalidInput),
        (503, Unavailable),
        (429, Unavailable),
    ],
)
def test_a_refusal_is_reported_without_the_signature(
    host: Host, status: int, error: type[Exception]
) -> None:
    host.answer("/fox", status=status)
    with pytest.raises(error, match=f"HTTP {status}") as raised:
        Image.from_url(host.url("/fox?signature=secret")).fetch()
    assert "secret" not in str(raised.value)


def test_a_page_is_no_picture(host: Host) -> None:
    host.answer("/fox", b"<html>log in</html>", Content_Type="image/png")
    with pytest.raises(InvalidInput, match="HTML"):
        Image.from_url(host.url()).fetch()


def test_a_download_is_bounded(host: Host) -> None:
    def announced(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(2**40))
        handler.end_headers()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(2**20))
        except OSError:
            handler.close_connection = True

    host.routes |= {"/announced": announced, "/endless": endless}
    for path in host.routes:
        with pytest.raises(InvalidInput, match="67,108,864"):
            Image.from_url(host.url(path)).fetch()


def test_a_download_has_a_deadline(host: Host) -> None:
    host.routes["/fox"] = lambda handler: (host.release.wait(20), None)[1]
    with pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        Image.from_url(host.url()).fetch(timeout=0.2)


def test_a_broken_connection_is_retryable(host: Host) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.close_connection = True

    host.routes["/fox"] = half
    with pytest.raises(Unavailable, match="RemoteProtocolError") as raised:
        Image.from_url(host.url("/fox?secret")).fetch()
    assert raised.value.retryable
    assert raised.value.provider == "127.0.0.1"
    seen: BaseException | None = raised.value
    while seen is not None:  # no exception of httpx, whose request holds the whole address
        assert "secret" not in repr(seen.__dict__) + str(seen)
        assert not type(seen).__module__.startswith("http")
        seen = seen.__cause__ or seen.__context__


# Base64


@pytest.fixture(params=["pybase64", "binascii"])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "binascii":
        monkeypatch.setitem(sys.modules, "pybase64", None)
    else:
        pytest.importorskip("pybase64")
    return str(request.param)


def outcome(text: str) -> bytes | str:
    try:
        return base64s.decode(text, limit=1000)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    "text",
    [
        "QQ",
        "QQ=",
        "QR==",
        "QUJ=",
        "====",
        "Q===",
        "QQ==QQ==",
        "QUJD\n",
        "QUI=\nQUI",
        "QQ-_",
        "Q Q=",
        "Q=Q=",
        "é===",
        "QUJDé===",
    ],
)
def test_what_is_not_quite_base64_is_refused(codec: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"padding|not allowed|stand for nothing"):
        base64s.decode(text, limit=1000)


def test_base64_has_a_limit(codec: str) -> None:
    text = base64s.encode(bytes(10))
    assert base64s.decode(text, limit=10) == bytes(10)
    with pytest.raises(ValueError, match="10 bytes"):
        base64s.decode(text, limit=9)
    assert base64s.decode("", limit=0) == b""


@given(st.binary(max_size=200))
def test_every_base64_is_the_standard_one(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fast = base64s.encode(data)
        patch.setitem(sys.modules, "pybase64", None)
        assert base64s.encode(data) == fast == base64.b64encode(data).decode()
        assert base64s.decode(fast, limit=200) == data


@given(st.text(st.sampled_from("ABQZaz09+/=-_ \né"), max_size=16))
def test_both_codecs_agree_on_every_text(text: str) -> None:
    fast = outcome(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pybase64", None)
        assert outcome(text) == fast
    if isinstance(fast, bytes):
        assert base64s.encode(fast) == text


def test_a_png_tells_that_a_byte_was_changed():
    file = io.BytesIO()
    PIL.Image.effect_noise((32, 32), 90).save(file, "PNG")
    data = file.getvalue()
    assert sniff.is_whole_png(data)
    assert not sniff.is_whole_png(data[:-1])
    assert not sniff.is_whole_png(data[:8])
    for position in range(8, len(data) - 12, 7):
        assert not sniff.is_whole_png(
            data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        )
