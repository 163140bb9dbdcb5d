"""PDF and TIFF become pages in a child process; what is hostile ends with a stable code."""

from collections.abc import Callable
from dataclasses import asdict, replace
from io import BytesIO
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import ExifTags, Image
from pypdfium2 import PdfiumError, PdfTextPage

from services.common.domain.errors import PermanentError
from services.common.domain.page import ProposedText, Quad
from services.segmenter import rendering, rendering_child
from services.segmenter.decoding import DecodingLimits, decode_page, decode_with_text
from services.segmenter.rendering import (
    PageCostsTooMuchError,
    RenderingLimits,
    UnreadableDocumentError,
    is_document,
    is_tiff,
    open_document,
)
from services.segmenter.rendering_child import render
from services.segmenter.settings import DOCUMENT_SECONDS, SegmenterSettings
from services.segmenter.text_layer import (
    NO_TEXT,
    TextLayer,
    count_texts,
    from_exif,
    proposal_of,
    to_exif,
)
from tests.support.pages import draw_page

LIMITS = RenderingLimits(
    pages=20,
    pixels=4_000_000,
    dots_per_inch=100,
    seconds=10,
    document_seconds=60,
    memory_bytes=512 * 2**20,
)
DECODING = DecodingLimits(pixels=20_000_000, seconds=10, memory_bytes=2**29)
SIZE = (400, 300)


def several_pages(form: str, pages: int = 3) -> bytes:
    first, *others = [Image.new("RGB", SIZE, (80 * number, 0, 0)) for number in range(pages)]
    file = BytesIO()
    first.save(file, form, save_all=True, append_images=others, resolution=100)
    return file.getvalue()


def pdf(page: str, *, content: bytes = b"", extra: bytes = b"") -> bytes:
    """Return a PDF of one page without a table of its objects: readers find them by themselves."""
    return b"".join(
        (
            b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
            b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n",
            f"3 0 obj<</Type/Page/Parent 2 0 R/Contents 4 0 R {page}>>endobj\n".encode(),
            f"4 0 obj<</Length {len(content)}>>stream\n".encode(),
            content,
            b"\nendstream endobj\n",
            extra,
            b"trailer<</Root 1 0 R>>\n%%EOF",
        )
    )


FONT = (
    "/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding<<"
    "/BaseEncoding/WinAnsiEncoding/Differences[1/fi/g17/uniE001]>>>>>>/XObject<</X 9 0 R>>>>"
    "/MediaBox[0 0 600 500]"
)
IMAGE = "q 600 0 0 50 0 95 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"
SHOWN = {
    # place: drawn text, what is proposed
    (50, 410): ("(\\001rst, \\374ber-) Tj", "first, über-"),
    (50, 360): ("(nameless \\002) Tj", None),
    (50, 310): ("(private \\003) Tj", None),
    (50, 260): ("3 Tr (read by a scanner) Tj 0 Tr", None),
    (350, 410): ("(blackened) Tj", None),
    (350, 310): ("(by a form) Tj", None),
    (350, 260): ("(framed) Tj", "framed"),
    (50, 110): ("(below the image) Tj", None),
    (350, 110): ("(on it) Tj", "on it"),
    (50, 60): ("", None),
}
GROUND = "1 g 0 0 600 500 re f 0 g"
RULES = "340 400 200 40 re 0 1 600 3 re f 340 250 200 40 re S /X Do"
"""A blackened word and a rule, a frame, and a form that blackens another word."""
FORM = (
    b"9 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Matrix[20 0 0 4 340 300]/Length 12>>"
    b"stream\n0 0 9 9 re f\nendstream endobj\n"
)


def test_seen_text_of_a_pdf_is_proposed() -> None:
    texts = [f"BT /F 20 Tf {x} {y} Td {text} ET" for (x, y), (text, _) in SHOWN.items()]
    content = "\n".join([GROUND, *texts[:-2], IMAGE, RULES, *texts[-2:]])
    layer = layer_of(pdf(FONT, content=content.encode("latin-1"), extra=FORM))

    quads: list[Quad] = [
        (x - 9, 480 - y, x + 290, 480 - y, x + 290, 506 - y, x - 9, 506 - y) for x, y in SHOWN
    ]
    proposed = [proposal_of(layer, each) for each in quads]
    assert proposed == [text for _, text in SHOWN.values()]
    assert [proposal_of(layer, (*each[4:], *each[:4])) for each in quads] == proposed
    hidden = len("readbyascanner" + "belowtheimage" + "blackened" + "byaform")
    assert count_texts(layer, quads) == ProposedText(proposed=3, damaged=2, hidden=hidden)


def layer_of(content: bytes, limits: RenderingLimits = LIMITS) -> TextLayer:
    with open_document(content, replace(limits, dots_per_inch=72)) as document:
        [page] = document.each
    with Image.open(BytesIO(page.content)) as image:
        is_kept = "exif" in image.info
    _, layer = decode_with_text(page.content, DECODING)
    assert is_kept == (layer != NO_TEXT)  # a page without text has the bytes that it always had
    return layer


def test_text_that_is_not_read_costs_no_page() -> None:
    """By a setting, and as there are too many objects to tell whether it is covered."""
    content = b"BT /F 20 Tf 50 50 Td (text) Tj ET "
    many = content + b"0 0 1 1 re f " * 15_000

    assert layer_of(pdf(FONT, content=content)).text == "text"
    assert layer_of(pdf(FONT, content=content), replace(LIMITS, text=False)) == NO_TEXT
    assert layer_of(pdf(FONT, content=many)) == NO_TEXT


def test_page_whose_text_fails_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PdfTextPage, "count_chars", Mock(side_effect=PdfiumError("damaged")))
    limits, rlimit = asdict(LIMITS), Mock()
    monkeypatch.setattr(rendering_child, "_allow", rlimit)  # of this process

    first, page = render(BytesIO(several_pages("PDF", 1)), 1, limits)

    assert (first, [*page]) == ({"pages": 1}, ["webp", "seconds"])


@pytest.mark.parametrize(
    "said",
    [
        '{"text":"ab","at":[1,1]}',
        '{"text":"a","at":["x","y"]}',
        '{"text":"a","at":[1,1e400]}',
        '{"text":"a","at":[1,1],"hidden":99999999999999999999}',
        '{"text":["a"],"at":[1,1]}',
        "[" * 100_000,
    ],
)
def test_damaged_text_layer_is_none(said: str) -> None:
    exif = Image.Exif()
    exif.load(to_exif(TextLayer("a", [1, 1])))
    mark, _, _ = str(exif[ExifTags.Base.ImageDescription]).partition("{")
    assert from_exif(mark + '{"text":"a","at":[1,1]}').text == "a"

    assert from_exif(mark + said) == NO_TEXT


def nested_forms() -> bytes:
    """Forms that draw ten others each, eight deep: 2 kB that take any memory."""
    forms = b""
    for depth in range(8):
        drawn = b"/X Do " * 10 if depth < 7 else b"0 0 1 1 re f"
        inner = f"/Resources<</XObject<</X {11 + depth} 0 R>>>>" if depth < 7 else ""
        forms += (
            (
                f"{10 + depth} 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]{inner}"
                f"/Length {len(drawn)}>>stream\n"
            ).encode()
            + drawn
            + b"\nendstream endobj\n"
        )
    resources = "/MediaBox[0 0 9 9]/Resources<</XObject<</X 10 0 R>>>>"
    return pdf(resources, content=b"/X Do", extra=forms)


@pytest.mark.parametrize("form", ["PDF", "TIFF"])
def test_every_page_is_rendered(form: str) -> None:
    content = several_pages(form)

    with open_document(content, LIMITS) as document:
        pages = list(document.each)

    assert is_document(content)
    assert document.pages == 3
    assert [page.number for page in pages] == [1, 2, 3]
    assert 0 < pages[0].seconds <= pages[-1].seconds
    for number, page in enumerate(pages):
        with Image.open(BytesIO(page.content)) as image:
            assert (image.format, image.size) == ("WEBP", SIZE)
            assert abs(image.getpixel((5, 5))[0] - 80 * number) < 5  # type: ignore[index]


@pytest.mark.parametrize("form", ["PDF", "TIFF"])
def test_rendering_goes_on_where_it_ended(form: str) -> None:
    with open_document(several_pages(form), LIMITS, first=3) as document:
        assert [page.number for page in document.each] == [3]


def test_huge_page_is_rendered_smaller() -> None:
    with open_document(pdf("/MediaBox[0 0 14400 14400]"), LIMITS) as document:
        (page,) = document.each

    with Image.open(BytesIO(page.content)) as image:
        assert image.size == (2000, 2000)


@pytest.mark.parametrize(
    ("make", "limits", "code"),
    [
        (lambda: b"%PDF-1.4 and nothing more", LIMITS, "unreadable_document"),
        (lambda: several_pages("PDF")[:200], LIMITS, "unreadable_document"),
        (lambda: several_pages("TIFF")[:200], LIMITS, "unreadable_document"),
        (lambda: several_pages("PDF", 4), replace(LIMITS, pages=3), "too_many_pages"),
        (lambda: several_pages("TIFF", 4), replace(LIMITS, pages=3), "too_many_pages"),
        (lambda: several_pages("TIFF"), replace(LIMITS, pixels=100_000), "page_costs_too_much"),
        (nested_forms, replace(LIMITS, seconds=1), "page_costs_too_much"),
    ],
)
def test_hostile_document_has_a_code(
    make: Callable[[], bytes], limits: RenderingLimits, code: str
) -> None:
    with (
        pytest.raises(PermanentError) as refused,
        open_document(make(), limits) as document,
    ):
        list(document.each)

    assert refused.value.code == code


def test_time_of_a_whole_document_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Mock(side_effect=UnreadableDocumentError)
    monkeypatch.setattr(rendering, "BoundedChild", child)

    limits = SegmenterSettings(page_seconds=20, max_pages=500).rendering
    for used in (0, 999.5):
        with pytest.raises(UnreadableDocumentError), open_document(b"", limits, used=used):
            pass
    with pytest.raises(PageCostsTooMuchError), open_document(b"", limits, used=DOCUMENT_SECONDS):
        pass

    bounds = [call.args[2].cpu_seconds for call in child.call_args_list]
    assert bounds == [DOCUMENT_SECONDS, DOCUMENT_SECONDS - 1000]


@pytest.mark.parametrize("before", [b"II\n", b"junk\n"])
def test_pdf_may_have_bytes_before_its_header(before: bytes) -> None:
    content = before + pdf("/MediaBox[0 0 9 9]")

    with open_document(content, LIMITS) as document:
        assert len(list(document.each)) == 1
    assert is_document(content)
    assert not is_tiff(content)


def test_password_is_not_guessed() -> None:
    encrypted = pdf("/MediaBox[0 0 9 9]").replace(
        b"trailer<<",
        b"9 0 obj<</Filter/Standard/V 1/R 2/O("
        + b"x" * 32
        + b")/U("
        + b"y" * 32
        + b")/P -1>>endobj"
        b"\ntrailer<</Encrypt 9 0 R/ID[(a)(a)]",
    )

    with pytest.raises(PermanentError) as refused, open_document(encrypted, LIMITS):
        pass

    assert refused.value.code == "encrypted_pdf"


def test_image_is_decoded_in_a_child_as_it_is_here() -> None:
    file = BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    page_image = draw_page()
    page_image.save(file, "PNG", exif=exif)

    pixels = decode_page(file.getvalue(), DECODING)

    assert np.array_equal(pixels, np.rot90(np.asarray(page_image), -1))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"pixels": 999}, "image_too_large"),
        ({"memory_bytes": 2**25}, "page_costs_too_much"),
    ],
)
def test_image_that_costs_too_much_has_a_code(changes: dict[str, int], code: str) -> None:
    file = BytesIO()
    Image.new("RGB", (4000, 4000)).save(file, "PNG")

    with pytest.raises(PermanentError) as refused:
        decode_page(file.getvalue(), replace(DECODING, **changes))

    assert refused.value.code == code


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"II", b"text about %PDF files"])
def test_image_is_no_document(content: bytes) -> None:
    assert not is_document(content)
