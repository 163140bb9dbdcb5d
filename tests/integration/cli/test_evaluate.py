"""``docreco evaluate`` against a real store and database, and a real engine."""

from pathlib import Path

import pytest

from services.datasets.splits import parse_split
from tests.support.datasets import STORED_AT, Collected, answer, docreco, prediction
from tests.support.images import line_image
from tests.support.models import add_model


@pytest.fixture
async def collected(collected: Collected) -> Collected:
    """Three annotated images that two model versions have read, and two that do not count."""
    for right, read, before in (
        ("industrie", "industrie", "industry"),
        ("Wikipedia", "Wikipedla", "Wlklpedla"),
        ("two words", "two words", "tw0 words"),
    ):
        await collected.add(
            f"{right}.png",
            read,
            right=right,
            urls=("https://a.example/1",),
            content=line_image(right),
            history=[prediction(before, version="fake-0", score=0.5)],
        )
    await collected.add("new.png", "new", right="new", urls=("https://b.example/1",))
    await collected.add("unknown.png", "unknown")
    return collected


async def test_last_predictions_are_measured(collected: Collected) -> None:
    await collected.set("two words.png", sources=[{"kind": "upload", "collection": "letters"}])
    told = (await answer("evaluate"))["models"]["last predictions"]
    assert told["images"] == 4
    assert told["cer"]["value"] == pytest.approx(1 / 30)
    assert told["exact"]["value"] == 0.75
    assert told["by_host"]["b.example"]["exact"] == 1
    assert told["by_host"]["letters"]["images"] == 1


async def test_accepted_texts_are_left_out_where_asked(collected: Collected) -> None:
    for key, how in (("industrie.png", "accepted"), ("Wikipedia.png", "corrected")):
        said = (await collected.document(key))["annotation"]
        await collected.set(key, annotation=said | {"how": how})

    every = (await answer("evaluate"))["models"]["last predictions"]
    some = (await answer("evaluate", "--only-corrected"))["models"]["last predictions"]

    assert {how: each["images"] for how, each in every["by_how"].items()} == {
        "accepted": 1,
        "corrected": 1,
        "unknown": 2,
    }
    assert "without them it is 4.8%" in every["remark"]
    assert (some["images"], some["cer"]["value"]) == (1, pytest.approx(1 / 9))


@pytest.mark.usefixtures("collected")
async def test_versions_are_compared_on_what_both_have_read(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    told = await answer(
        *("evaluate", "--model-version", "fake-1", "--against", "fake-0", "--html", page)
    )
    assert told["models"]["fake-1"]["images"] == told["models"]["fake-0"]["images"] == 3
    assert told["models"]["fake-0"]["unread"] == 1
    assert told["comparison"]["cer"]["estimate"]["value"] == pytest.approx((1 - 6) / 27)
    assert "fake-0" in page.read_text()


@pytest.mark.usefixtures("collected")
async def test_engine_reads_again_to_compare_with_stored_texts() -> None:
    told = await answer("evaluate", "--engine", "rapidocr", "--against", "fake-0")
    engine = next(name for name in told["models"] if name.startswith("rapidocr"))
    assert told["models"][engine]["images"] == 3
    assert told["models"][engine]["cer"]["value"] < 0.1
    assert told["comparison"]["exact"]["estimate"]["value"] > 0.5


async def test_only_the_part_that_no_model_was_trained_on(collected: Collected) -> None:
    split = parse_split("50/50")
    expected = 0
    for key in ("industrie.png", "Wikipedia.png", "two words.png", "new.png"):
        document = await collected.document(key)
        expected += split.place(document["sha256"]) == "validation"
    assert 0 < expected < 4
    told = await answer("evaluate", "--part", "validation", "--split", "50/50")
    assert told["models"]["last predictions"]["images"] == expected


async def test_what_a_model_has_learnt_does_not_measure_it(
    collected: Collected, models: Path
) -> None:
    learnt = (await collected.document("Wikipedia.png"))["sha256"]
    known, page = add_model(models, "lines", learnt=[learnt]), models / "page.html"
    unknown = add_model(models, "old", learnt=None)
    for right, version in (("industrie", known), ("Wikipedia", known), ("two words", unknown)):
        read = prediction(right, version=version, score=0.5)
        await collected.set(f"{right}.png", prediction=read)

    every = await answer("evaluate", "--html", page)
    own = await answer("evaluate", "--model-version", known)
    asked = await answer("evaluate", "--model-version", known, "--part", "train")

    assert (every["models"]["last predictions"]["images"], every["left_out"]) == (3, 1)
    assert (own["models"][known]["images"], own["left_out"]) == (1, 1)
    assert asked["left_out"] == 0
    pair = await answer("evaluate", "--model-version", known, "--against", "fake-0")
    assert (pair["models"][known]["images"], pair["left_out"]) == (1, 1)
    await collected.set("Wikipedia.png", history=[])
    pair = await answer("evaluate", "--model-version", known, "--against", "fake-0")
    assert (pair["models"]["fake-0"]["unread"], pair["left_out"]) == (2, 0)
    assert own["unrecorded"] == []
    assert every["unrecorded"] == ["fake-1", unknown], "no model fake-1 is in the folder"
    assert all(words in page.read_text() for words in ("1 left out", f"{unknown} may have learnt"))


async def test_what_chose_a_model_is_counted_among_what_measures_it(
    collected: Collected, models: Path
) -> None:
    hashes = [(await collected.document(f"{key}.png"))["sha256"] for key in ("industrie", "new")]
    known = add_model(models, "lines", learnt=hashes[1:], chosen_by=hashes)
    before = add_model(models, "old", learnt=[], chosen_by=None)
    for key, version in (("industrie", known), ("Wikipedia", known), ("two words", before)):
        read = prediction(key, version=version, score=0.5)
        await collected.set(f"{key}.png", prediction=read)

    own = await answer("evaluate", "--model-version", known)
    every = await answer("evaluate")
    _, shown = await docreco("evaluate")

    assert (own["models"][known]["images"], own["chosen"], own["choice_unrecorded"]) == (2, 1, [])
    assert (every["chosen"], every["choice_unrecorded"]) == (1, [before])
    assert "1 of 4 images chose the weights" in " ".join(shown.split())


async def test_part_by_source_is_where_the_export_puts_all_copies(
    collected: Collected, tmp_path: Path
) -> None:
    """Copies of one image whose own hosts belong to different parts."""
    split = parse_split("50/50")
    hosts = [f"host-{number}.example" for number in range(20)]
    early = next(host for host in hosts if split.place(f"host:{host}") == "train")
    late = next(host for host in hosts if split.place(f"host:{host}") == "validation")
    for key, host, day in (("0.png", late, 9), ("1.png", early, 2)):
        at = STORED_AT.replace(day=day)
        source = {"url": f"https://{host}/", "batch_id": "b", "fetched_at": at}
        content = line_image("copied")
        await collected.add(key, "copied", right="copied", content=content, sources=[source])
    shares = ("--group-by", "source", "--split", "50/50")
    told = await answer("export", "--format", "hf", "--out", tmp_path / "set", *shares)
    assert told["excluded"] == {"duplicate": 1}
    found = await answer("evaluate", "--part", "train", *shares)
    by_host = found["models"]["last predictions"]["by_host"]
    assert late in by_host, "the host of the copy that counts"
    assert early not in by_host, "two copies are one image"


@pytest.mark.usefixtures("collected")
async def test_tables_for_people() -> None:
    status, output = await docreco("evaluate", "--model-version", "fake-1", "--against", "fake-0")
    assert status == 0
    assert "may be chance" in output
    assert "a.example" in output


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--model-version", "none"], 4, "no annotated image"),
        (["--model-version", "a", "--engine", "rapidocr"], 2, "either a version or an engine"),
        (["--engine", "abacus"], 2, "rapidocr"),
        (["--part", "best"], 2, "train, validation, test"),
        (["--model-version", "a", "--against", "a"], 2, "the same model"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    arguments: list[str], status: int, words: str
) -> None:
    got, output = await docreco("evaluate", *arguments)
    assert got == status
    assert words in " ".join(output.replace("│", " ").split())
