"""Files made to cost their reader time or memory, each within what may be uploaded."""

import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from time import thread_time

import numpy as np
from PIL import Image

from tests.support.images import draw_line, encode, line_image, png_chunk

LARGEST = 20 * 1024 * 1024 - 1024


@cache
def endless_images() -> dict[str, bytes]:
    """Return files of millions of tiny parts, by name: each takes seconds without limits."""
    jpeg, png = line_image("x", image_format="JPEG"), line_image("x")
    pixels = png.index(b"IDAT") - 4
    gif = line_image("x", image_format="GIF")
    palette_end = 13 + 3 * (2 << (gif[10] & 7))
    return {
        "jpeg of empty comments": _filled(jpeg, 2, b"\xff\xfe\x00\x02"),
        "jpeg of empty application segments": _filled(jpeg, 2, b"\xff\xe1\x00\x02"),
        "jpeg of fill bytes": _filled(jpeg, 2, b"\xff"),
        "png of empty private chunks": _filled(png, 33, png_chunk(b"teXt", b"")),
        "png of empty pixel chunks": _filled(png, pixels, png_chunk(b"IDAT", b"")),
        "gif of tiny comments": _filled(gif, palette_end, b"\x21\xfe\x01a\x00"),
        "bmp of empty runs": _bmp_runs(),
        "tiff of endless strips": tiff(LARGEST // 8 - 100, 320, 48, {273: "offsets", 278: 1}),
        "tiff of endless tiles": tiff(
            LARGEST // 8 - 100, 320, 48, {322: 16, 323: 16, 324: "offsets"}
        ),
        "big-endian tiff of endless strips": tiff(
            LARGEST // 8 - 100, 320, 48, {273: "offsets", 278: 1}, order=">"
        ),
        "bigtiff of endless strips": tiff(
            LARGEST // 8 - 100, 320, 48, {273: "offsets", 278: 1}, is_big=True
        ),
        "tiff of one-pixel tiles": tiff(2_000_000, 2_000, 1_000, {322: 1, 323: 1, 324: "offsets"}),
        "tiff of 65,535 tags": b"II*\0" + struct.pack("<LH", 8, 65_535)
        + b"".join(struct.pack("<HHLL", tag, 4, 1, 5) for tag in range(65_535)) + bytes(4),
    }  # fmt: skip


@cache
def costly_images() -> dict[str, bytes]:
    """Return images as large as may be, or that unpack to much, by name; they can be read."""
    rng = np.random.default_rng(7)
    noise = Image.fromarray(rng.integers(0, 256, (1250, 1250, 3), dtype=np.uint8))
    photo = noise.resize((5_000, 5_000), Image.Resampling.NEAREST)
    line = draw_line("line")
    frames = [Image.new("RGB", (320, 48), (number, 0, 0)) for number in range(200)]
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))
    png = encode(line)
    return {
        "progressive photo": encode(photo, "JPEG", progressive=True, quality=50),
        "cmyk photo": encode(photo.convert("CMYK"), "JPEG", quality=50),
        "webp photo": encode(photo.resize((4_000, 3_000)), "WEBP", quality=5, method=0),
        "grey gif": encode(Image.new("L", (5_000, 5_000)), "GIF"),
        "deflated strips": encode(
            Image.new("L", (380, 65_535)), "TIFF", compression="tiff_deflate"
        ),
        "small tiles": tiff(24_649, 5_000, 5_000, {322: 32, 323: 32, 324: "offsets"}, size=1024),
        "60 texts of 1 MB": png[:33] + 60 * text + png[33:],
        "colour profile of 16 MB": encode(line, "JPEG", icc_profile=bytes(16_000_000)),
        "200 frames": encode(frames[0], save_all=True, append_images=frames[1:]),
        "16 bits, 25 million pixels": encode(
            Image.fromarray(np.zeros((5_000, 5_000), np.uint16)), compress_level=1
        ),
        "palette, 25 million pixels": encode(Image.new("P", (5_000, 5_000)), transparency=0),
    }


def tiff(
    parts: int,
    width: int,
    height: int,
    tags: dict[int, int | str],
    *,
    size: int = 1,
    order: str = "<",
    is_big: bool = False,
) -> bytes:
    """Return a grey TIFF of so many strips or tiles, all of them the file's first bytes.

    Args:
        parts: Strips or tiles.
        width: Pixels.
        height: Pixels.
        tags: Further tags; ``"offsets"`` is where the parts are listed, the next tag their sizes.
        size: Bytes of a part.
        order: ``<`` or ``>``.
        is_big: Whether it is a BigTIFF.
    """
    head, word = (16, "Q") if is_big else (8, "L")
    lists = struct.pack(f"{order}L", 0) * parts + struct.pack(f"{order}L", size) * parts
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1}
    rows = [(tag, 1, value) for tag, value in values.items()]
    for tag, value in tags.items():
        if isinstance(value, int):
            rows.append((tag, 1, value))
        else:
            sizes = 279 if tag == 273 else 325
            rows += [(tag, parts, head), (sizes, parts, head + 4 * parts)]
    marks = (43, 8, 0) if is_big else (42,)
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}{len(marks)}H", *marks)
    directory = struct.pack(f"{order}{'Q' if is_big else 'H'}", len(rows)) + b"".join(
        struct.pack(f"{order}HH{word}", tag, 4, count) + _value(order, word, count, value)
        for tag, count, value in sorted(rows)
    )
    return start + struct.pack(f"{order}{word}", head + len(lists)) + lists + directory + bytes(8)


def _value(order: str, word: str, count: int, value: int) -> bytes:
    if count == 1:
        return struct.pack(f"{order}L", value).ljust(struct.calcsize(f"{order}{word}"), b"\0")
    return struct.pack(f"{order}{word}", value)


def _filled(content: bytes, position: int, part: bytes) -> bytes:
    count = (LARGEST - len(content)) // len(part)
    return content[:position] + count * part + content[position:]


def _bmp_runs() -> bytes:
    runs = b"\x00\x00" * (LARGEST // 2 - 1000)
    return (
        struct.pack("<2sIHHI", b"BM", 1078 + len(runs), 0, 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, len(runs), 0, 0, 256, 0)
        + bytes(1024) + runs
    )  # fmt: skip


HOSTILE: dict[str, Callable[[], dict[str, bytes]]] = {
    "endless": endless_images,
    "costly": costly_images,
}


def is_within(seconds: float, limit: float) -> bool:
    """Return whether processor time is within a limit, on a machine as slow as this one is now.

    Decoding a plain image of the largest size took 0.25 s where the limits were chosen.
    """
    return seconds < limit or seconds < limit * _plain_image_seconds() / 0.25


def _plain_image_seconds() -> float:
    noise = np.random.default_rng(7).integers(0, 256, (1250, 1250, 3), dtype=np.uint8)
    plain = Image.fromarray(noise).resize((5_000, 5_000), Image.Resampling.NEAREST)
    file = BytesIO(encode(plain, "JPEG"))
    started = thread_time()
    Image.open(file).load()
    return thread_time() - started
