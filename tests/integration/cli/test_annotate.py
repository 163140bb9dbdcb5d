"""``docreco annotate`` against a real database."""

import asyncio
import json
from pathlib import Path

import pytest

from services.cli.annotation_writing import Finder
from services.common.adapters.image_repository import ImageRepository
from services.common.domain.annotations import AnnotationOutcome, to_annotation
from tests.support.datasets import Collected, annotation, answer, docreco

URL = "https://site.example/a%20b.png"


async def test_file_annotates_by_url_and_key(collected: Collected, tmp_path: Path) -> None:
    await collected.add("1.png", "one", urls=(URL,))
    await collected.add("2.png", "two", urls=("https://other.example/", URL))
    await collected.add("3.png", "three")
    await collected.add("4.png", "four")
    file = tmp_path / "right.csv"
    file.write_text(
        "Image URL;Ground truth;quality\n"
        'https://SITE.example/a b.png;"  l\'e\u0301té; ""vert"" ";\n'
        "3.png;;unreadable\n"
        f"{collected.store.bucket}/4.png;quatre;ok\n"
    )
    told = await answer("annotate", file, "--by", "ada")

    assert (told["rows"], told["written"], told["remarks"]) == (3, 4, [])
    for key in ("1.png", "2.png"):
        written = (await collected.document(key))["annotation"]
        assert written["text"] == 'l\'été; "vert"'
        assert (written["quality"], written["by"], written["normalisation"]) == ("ok", "ada", 2)
        assert written["how"] == "given"
    assert (await collected.document("3.png"))["annotation"]["quality"] == "unreadable"
    assert (await collected.document("4.png"))["annotation"]["text"] == "quatre"
    assert (await answer("annotate", file, "--by", "bob"))["unchanged"] == 4


async def test_remark_holds_no_secret_of_a_url(collected: Collected, tmp_path: Path) -> None:
    file = tmp_path / "right.csv"
    file.write_text("url,text\nhttps://site.example/a.png?ticket=s3cret,one\nno?.png,two\n")

    told = await answer("annotate", file, "--by", "ada", status=1)

    shown = [each["where"] for each in told["remarks"]]
    assert shown == ["https://site.example/a.png?…", "no?.png"]
    assert (await collected.database.images.count({})) == 0


async def test_other_annotation_stays_unless_overwritten(
    collected: Collected, tmp_path: Path
) -> None:
    await collected.add("1.png", "one", right="One")
    file = tmp_path / "right.jsonl"
    file.write_text('{"key": "1.png", "text": "Two"}\n')

    told = await answer("annotate", file, "--by", "bob", status=1)
    assert told["conflict"] == 1
    assert told["remarks"][0]["line"] == 1
    assert (await collected.document("1.png"))["annotation"]["text"] == "One"

    dry = await answer("annotate", file, "--by", "bob", "--overwrite", "--dry-run")
    assert dry["written"] == 1
    assert (await collected.document("1.png"))["annotation"]["text"] == "One"

    assert (await answer("annotate", file, "--by", "bob", "--overwrite"))["written"] == 1
    document = await collected.document("1.png")
    assert document["annotation"]["text"] == "Two"
    assert document["annotation_history"] == [annotation("One")]
    assert document["revision"] == 2


async def test_rows_that_say_nothing_are_named(collected: Collected, tmp_path: Path) -> None:
    await collected.add("1.png", "one")
    await collected.add("gone.png", "gone", status="removed")
    file = tmp_path / "right.tsv"
    file.write_bytes(
        b"key\ttext\n"
        b"1.png\tbad\x07\n"
        b"\n"
        b"missing.png\tm\n"
        b"gone.png\tg\n"
        b"\tno key\n"
        b'1.png\tno "quo"te" at all\n'
        b"1.png\tcaf\xe9\n"
        b"1.png\tNo\xc3\xabl\n"
        b"1.png\tNo\xc3\xabl\n"
    )
    told = await answer("annotate", file, status=1)

    assert [(each["line"], each["outcome"]) for each in told["remarks"]] == [
        (2, "rejected"),
        (4, "unknown"),
        (5, "unknown"),
        (6, "rejected"),
        (8, "rejected"),
        (9, "conflict"),
        (10, "conflict"),
    ]
    assert (await collected.document("1.png"))["annotation"]["text"] == 'no "quo"te" at all'
    assert "annotation" not in (await collected.document("gone.png"))["prediction"]


async def test_table_for_people_shows_no_control_characters(
    collected: Collected, tmp_path: Path
) -> None:
    await collected.add("1.png", "one")
    file = tmp_path / "right.csv"
    file.write_text("1.png,said\n\x1b[2Jhidden,[red]text\n")
    status, output = await docreco("annotate", file)
    assert status == 1
    assert "2 rows: 1 written, 1 unknown" in output
    assert "\x1b" not in output


async def test_file_is_read_as_its_sender_says(collected: Collected, tmp_path: Path) -> None:
    await collected.add("1.png", "one")
    file = tmp_path / "right.csv"
    file.write_bytes("scan;texte vérifié;n°\n1.png;Łódź;7\n".encode("cp1250"))
    options = ("--encoding", "cp1250", "--url-column", "scan", "--text-column", "texte vérifié")
    told = await answer("annotate", file, *options)
    people = await docreco("annotate", file, *options)

    assert (await collected.document("1.png"))["annotation"]["text"] == "Łódź"
    assert told["reading"]["encoding"] == "cp1250"
    assert told["reading"]["columns"] == {"image": "scan", "text": "texte vérifié"}
    assert told["reading"]["ignored_columns"] == ["n°"]
    assert (
        "1 read, 1 of them with a text; columns: scan as image, texte vérifié as text" in people[1]
    )


async def test_strict_writes_nothing_of_a_doubtful_file(
    collected: Collected, tmp_path: Path
) -> None:
    await collected.add("1.png", "one")
    file = tmp_path / "right.csv"
    file.write_text("key,text\n1.png,put down, and up\n")
    status, output = await docreco("annotate", file, "--strict")
    assert status == 4
    assert "line 2: 3 cells in a table of 2 columns" in output
    assert (await collected.document("1.png"))["annotation"] is None
    assert (await answer("annotate", file))["written"] == 1


async def test_kind_of_rows_all_unknown_is_told_once(collected: Collected, tmp_path: Path) -> None:
    await collected.add("1.png", "one", urls=(URL,))
    file = tmp_path / "labels.csv"
    names = "".join(f"lines/{number:03}.jpg,text\n" for number in range(120))
    file.write_text(f"file_name,text\n{names}{URL},einundzwanzig\n")
    status, output = await docreco("annotate", file)
    assert status == 1
    assert "120 rows name files; none matches a name" in output
    assert "001.jpg, lines/002.jpg" in output
    assert "005.jpg" not in output
    assert "and 115 more" in output
    assert "121 rows: 1 written, 120 unknown" in output


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("url,score\nhttp://a/,1\n", "no column is named annotation"),
        ("url,score\nhttp://a/,1\n", "Name it by --text-column\n"),
        ("text,score\na,1\n", "no column is named key"),
        ("alone\n", "its columns are 'alone'"),
        (None, "can't be read"),
    ],
)
async def test_file_that_is_none_is_refused(
    tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "a.csv"
    if content is not None:
        file.write_text(content)
    status, output = await docreco("annotate", file)
    assert status == 4
    assert words in output


async def test_annotation_during_another_change_loses_nothing(collected: Collected) -> None:
    await collected.add("1.png", "one")
    images, document_id = collected.database.images, f"{collected.store.bucket}/1.png"

    async def write(number: int) -> AnnotationOutcome:
        said = to_annotation(f"{number}", by="ada")
        return await ImageRepository(images).annotate(document_id, said, overwrite=True)

    outcomes = await asyncio.gather(*(write(number) for number in range(8)))
    document = await collected.document("1.png")
    texts = {document["annotation"]["text"]} | {
        each["text"] for each in document["annotation_history"]
    }
    assert outcomes == [AnnotationOutcome.WRITTEN] * 8
    assert texts == {str(number) for number in range(8)}


@pytest.mark.parametrize("few", [0, 1, 20])
async def test_end_of_a_path_finds_its_image(
    collected: Collected, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("services.cli.annotation_writing.FEW", few)
    for number, name in enumerate(("x/a+b.png", "x/aab.png", "y/c.png", "z/c.png")):
        source = {"kind": "archive", "collection": "march", "name": name, "batch_id": "b"}
        await collected.add(f"{number}.png", "one", sources=[source])
    finder = Finder(ImageRepository(collected.database.images), collected.store.bucket, "march")
    found = {
        name: (await finder.find(name)).ids for name in ("none", "a+b.png", "c.png", "z/c.png")
    }
    keys = {name: {each.rpartition("/")[2] for each in ids} for name, ids in found.items()}
    assert keys.pop("none") == set()
    assert keys == {"a+b.png": {"0.png"}, "c.png": {"2.png", "3.png"}, "z/c.png": {"3.png"}}
    assert len(finder._paths) == (0 if few == 20 else 4)


async def test_file_annotates_by_name_and_hash(collected: Collected, tmp_path: Path) -> None:
    def sources(collection: str, name: str) -> list[dict[str, str]]:
        return [{"kind": "archive", "collection": collection, "name": name, "batch_id": "b"}]

    await collected.add("1.png", "one", sources=sources("march", "lines/a.png"))
    await collected.add("2.png", "two", sources=sources("april", "lines/a.png"))
    await collected.add("3.png", "three", sources=sources("april", "b.png"))
    sha256 = await collected.add("4.png", "four", sources=sources("march", "c.png"))
    file = tmp_path / "labels.csv"
    file.write_text(f"file_name,text\nlines/a.png,eins\nb.png,drei\n{sha256},vier\na.png,eins\n")

    told = await answer("annotate", file, "--by", "ada", status=1)
    assert (told["written"], told["rejected"]) == (2, 2)
    assert [each["detail"] for each in told["remarks"]] == [
        "several images have this name: choose by --collection"
    ] * 2
    _, output = await docreco("annotate", file, "--dry-run")
    assert "2 rows name files by a name that several images have" in output
    assert "(lines/a.png, a.png)" in output
    again = await answer("annotate", file, "--by", "ada", "--collection", "march", status=1)
    assert (again["written"], again["unchanged"], again["unknown"]) == (1, 2, 1)
    assert (await collected.document("1.png"))["annotation"]["text"] == "eins"
    assert (await collected.document("2.png"))["annotation"] is None
    _, output = await docreco("images", "--collection", "march", "--json")
    assert {each["name"] for each in json.loads(output)} == {"lines/a.png", "c.png"}
