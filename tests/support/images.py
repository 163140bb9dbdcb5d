"""Images drawn by tests: lines of text, and hostile files."""

import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def draw_line(text: str, *, font_size: int = 40, colour: str = "black") -> Image.Image:
    """Draw a line of text (ASCII: Pillow's own font has no accents) on white."""
    font = ImageFont.load_default(size=font_size)
    margin = font_size // 2
    image = Image.new("RGB", (int(font.getlength(text)) + 2 * margin, 2 * font_size), "white")
    ImageDraw.Draw(image).text((margin, margin), text, font=font, fill=colour)
    return image


def encode(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """Return the file of an image."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def line_image(text: str, *, font_size: int = 40, image_format: str = "PNG") -> bytes:
    """Return the file of a drawn line of text."""
    return encode(draw_line(text, font_size=font_size), image_format)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file that declares a size and has a few bytes of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(64))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in chunks)


@cache
def readable_images(text: str) -> dict[str, bytes]:
    """Return one line of text in every form that must be read like the plain one, by name."""
    line = draw_line(text)
    grey = line.convert("L")
    deep = np.asarray(grey).astype(np.uint16)
    alpha = Image.eval(grey, lambda value: 255 - value)
    black = Image.new("RGB", line.size, "black")
    ink = Image.merge("RGBA", (*black.split(), alpha))
    blank = Image.new("RGB", line.size, "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = line.transpose(Image.Transpose.ROTATE_90)
    clear_palette = grey.quantize(16)
    return {
        "png": encode(line),
        "jpeg": encode(line, "JPEG"),
        "jpeg with a video behind it": encode(line, "JPEG") + 200 * b"\xff\xda video",
        "webp": encode(line, "WEBP"),
        "tiff": encode(line, "TIFF"),
        "tiff, deflate": encode(line, "TIFF", compression="tiff_adobe_deflate"),
        "bmp": encode(line, "BMP"),
        "gif": encode(line, "GIF"),
        "grey": encode(grey),
        "1 bit": encode(grey.convert("1", dither=Image.Dither.NONE)),
        "palette": encode(clear_palette),
        "palette with transparent paper": encode(clear_palette, transparency=_white(clear_palette)),
        "transparent paper": encode(ink),
        "grey with alpha": encode(Image.merge("LA", (black.convert("L"), alpha))),
        "webp with alpha": encode(ink, "WEBP", lossless=True),
        "16 bits": encode(Image.fromarray(deep * 257)),
        "12 bits stored in 16": encode(Image.fromarray(deep * 16)),
        "32-bit integers": encode(Image.fromarray(deep.astype(np.int32)), "TIFF"),
        "floats from 0 to 1": encode(Image.fromarray(deep.astype(np.float32) / 255), "TIFF"),
        "cmyk jpeg": encode(line.convert("CMYK"), "JPEG"),
        "cmyk tiff": encode(line.convert("CMYK"), "TIFF"),
        "ycbcr tiff": encode(line.convert("YCbCr"), "TIFF"),
        "lab tiff": encode(_lab(grey), "TIFF"),
        "exif-rotated jpeg": encode(turned, "JPEG", exif=exif),
        "exif-rotated png": encode(turned, exif=exif),
        "exif-rotated webp": encode(turned, "WEBP", exif=exif),
        "exif-rotated tiff": encode(turned, "TIFF", exif=exif),
        "damaged exif": encode(line, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"),
        "damaged colour profile": encode(line, icc_profile=b"no profile at all"),
        "animated gif": encode(line, "GIF", save_all=True, append_images=[blank]),
        "animated webp": encode(line, "WEBP", save_all=True, append_images=[blank]),
        "animated png": encode(line, save_all=True, append_images=[blank]),
        "two-page tiff": encode(line, "TIFF", save_all=True, append_images=[blank]),
        "multi-picture jpeg": encode(line, "MPO", save_all=True, append_images=[blank]),
        "progressive jpeg": encode(line, "JPEG", progressive=True),
        "rubbish after the end": encode(line) + b"rubbish" * 100,
        "large": encode(draw_line(text, font_size=900)),
        "small": encode(draw_line(text, font_size=16)),
    }


@cache
def odd_images() -> dict[str, bytes]:
    """Return images that hold no line of text but can be decoded, by name."""
    noise = np.random.default_rng(7).integers(0, 256, (48, 320, 3), dtype=np.uint8)
    nan = np.full((48, 320), np.nan, np.float32)
    endless = np.full((48, 320), np.inf, np.float32)
    return {
        "1 x 1": encode(Image.new("RGB", (1, 1))),
        "2 x 1, 1 bit": encode(Image.new("1", (2, 1))),
        "10 x 30000": encode(Image.new("RGB", (10, 30_000), "white")),
        "30000 x 10": encode(Image.new("RGB", (30_000, 10), "white")),
        "65535 x 1": encode(Image.new("L", (65_535, 1))),
        "1 x 65535": encode(Image.new("L", (1, 65_535))),
        "white": encode(Image.new("RGB", (320, 48), "white")),
        "black": encode(Image.new("RGB", (320, 48))),
        "noise": encode(Image.fromarray(noise)),
        "wholly transparent": encode(Image.new("RGBA", (320, 48))),
        "floats, not numbers": encode(Image.fromarray(nan), "TIFF"),
        "floats, infinite": encode(Image.fromarray(endless), "TIFF"),
        "floats, negative": encode(Image.fromarray(np.full((48, 320), -9, np.float32)), "TIFF"),
        "16 bits, black": encode(Image.fromarray(np.zeros((48, 320), np.uint16))),
        "as many pixels as allowed": encode(
            Image.new("RGBA", (6_000, 4_000), (9, 9, 9, 99)), compress_level=1
        ),
    }


@cache
def differing_images(text: str) -> dict[str, bytes]:
    """Return one line of text in further forms that readers and browsers treat differently."""
    line = draw_line(text)
    grey = line.convert("L")
    alpha = Image.eval(grey, lambda value: 255 - value)
    ink = Image.merge("RGBA", (*Image.new("RGB", line.size, "black").split(), alpha))
    opaque = line.copy()
    opaque.putalpha(255)
    deep = np.asarray(grey).astype(np.uint16)
    palette = line.quantize(16)
    turned = {
        f"orientation {value}, {name}": encode(line, name, exif=_orientation(value))
        for value in range(2, 9)
        for name in ("JPEG", "PNG", "WEBP", "TIFF")
    }
    return turned | {
        "alpha that hides nothing": encode(opaque),
        "alpha that hides nothing, bmp": encode(opaque, "BMP"),
        "half transparent": encode(Image.blend(Image.new("RGBA", line.size), opaque, 0.5)),
        "transparent bmp": encode(ink, "BMP"),
        "transparent tiff": encode(ink, "TIFF"),
        "transparent gif": encode(palette, "GIF", transparency=_white(palette)),
        "rgb whose white is transparent": encode(line, transparency=(255, 255, 255)),
        "grey whose white is transparent": encode(grey, transparency=255),
        "16 bits, tiff": encode(Image.fromarray(deep * 257), "TIFF"),
        "12 bits stored in 16, tiff": encode(Image.fromarray(deep * 16), "TIFF"),
        "32-bit integers, large": encode(Image.fromarray(deep.astype(np.int32) * 9999), "TIFF"),
        "floats up to 255": encode(Image.fromarray(deep.astype(np.float32)), "TIFF"),
        "1 bit, tiff": encode(grey.convert("1", dither=Image.Dither.NONE), "TIFF"),
        "palette, tiff": encode(palette, "TIFF"),
        "colour": encode(draw_line(text, colour="crimson")),
        "colour, cmyk": encode(draw_line(text, colour="crimson").convert("CMYK"), "JPEG"),
    }


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@cache
def damaged_images() -> dict[str, bytes]:
    """Return files in our formats that cannot be decoded, by name."""
    files = {name: line_image("damaged", image_format=name) for name in ("PNG", "JPEG", "WEBP")}
    files |= {name: line_image("damaged", image_format=name) for name in ("TIFF", "BMP")}
    halves = {f"half a {name}": content[: len(content) // 2] for name, content in files.items()}
    png = files["PNG"]
    return halves | {
        "nothing": b"",
        "png without pixels": png_header(320, 48),
        "png with a wrong checksum": png.replace(b"IDAT", b"IDAT\xff", 1),
        "jpeg with endless scans": _many_scans(),
    }


@cache
def foreign_files() -> dict[str, bytes]:
    """Return files in formats that are not ours, by name."""
    line = draw_line("foreign")
    return {
        "html": b"<!doctype html><title>Not Found</title>",
        "text": b"Wikipedia",
        "pdf": encode(line, "PDF"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "ppm": encode(line, "PPM"),
        "ico": encode(line, "ICO"),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "zip": b"PK\x03\x04" + bytes(64),
        "zeros": bytes(4096),
        "png signature alone": b"\x89PNG\r\n\x1a\n",
        "jpeg signature alone": b"\xff\xd8\xff",
        "tiff whose directory is rubbish": _scrambled(encode(line, "TIFF")),
    }


@cache
def oversized_images() -> dict[str, bytes]:
    """Return small files that declare too many pixels, by name."""
    return {
        "png bomb": png_header(60_000, 60_000),
        "png of the largest size": png_header(2**31 - 1, 2**31 - 1),
        "png a little too large": png_header(5_001, 5_000),
        "png too wide": png_header(65_536, 1),
        "png that Pillow would warn of": png_header(10_000, 10_000),
        "gif bomb": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(3) + _GIF_FRAME,
        "webp bomb": _huge_webp(),
        "bmp bomb": _bmp_header(50_000, 50_000),
        "tiff with a huge tile": _huge_tile(),
    }


_GIF_FRAME = b"," + struct.pack("<HHHH", 0, 0, 65_535, 65_535) + b"\x00\x02\x02D\x01\x00;"


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG file, with its checksum."""
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def _white(image: Image.Image) -> int:
    palette = image.getpalette() or []
    return max(range(len(palette) // 3), key=lambda index: palette[3 * index])


def _lab(grey: Image.Image) -> Image.Image:
    neutral = Image.new("L", grey.size, 128)
    return Image.merge("LAB", (grey, neutral, neutral))


def _many_scans() -> bytes:
    jpeg = line_image("scans", image_format="JPEG")
    scan = jpeg[jpeg.index(b"\xff\xda") : -2]
    return jpeg[:-2] + 200 * scan + jpeg[-2:]


def _scrambled(tiff: bytes) -> bytes:
    first = int.from_bytes(tiff[4:8], "little")
    return tiff[: first + 2] + b"\xff" * (len(tiff) - first - 2)


def _bmp_header(width: int, height: int) -> bytes:
    file = struct.pack("<2sIHHI", b"BM", 54 + 64, 0, 0, 54)
    return (
        file + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(64)
    )


def _huge_webp() -> bytes:
    webp = line_image("huge", image_format="WEBP")  # RIFF and VP8 headers, then the frame's size
    return webp[:26] + struct.pack("<HH", 16_383, 16_383) + webp[30:]


def _huge_tile() -> bytes:
    tags: list[tuple[int, int]] = [
        (256, 320), (257, 48), (258, 8), (259, 8), (262, 1), (277, 1),
        (322, 65_520), (323, 65_520), (324, 8), (325, 8),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        b"II*\x00" + struct.pack("<I", 16) + bytes(8)
        + struct.pack("<H", len(tags)) + entries + bytes(4)
    )  # fmt: skip


CORPORA: dict[str, Callable[[], dict[str, bytes]]] = {
    "odd": odd_images,
    "damaged": damaged_images,
    "foreign": foreign_files,
    "oversized": oversized_images,
}
"""Everything hostile or odd that ``/predict`` must answer without failing."""
