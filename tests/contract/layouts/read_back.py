"""Read exports by the libraries that their layouts are for, each in an environment of its own.

docTR and kraken can't be installed beside this project's own libraries (see
docs/decisions/0018-splits-by-hash.md), so this is run by hand, by the Python of an environment that
has the library and nothing of this project::

    python tests/contract/layouts/read_back.py doctr FOLDER
    python tests/contract/layouts/read_back.py kraken FOLDER

FOLDER is what ``docreco export --format doctr`` (or ``kraken``) has written. Every label must be
the one of ``manifest.jsonl``, and every image must open.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def read_by_doctr(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """Yield hash and label of each image, by ``doctr.datasets.RecognitionDataset``."""
    library = importlib.import_module("doctr.datasets")
    part = folder / split
    dataset = library.RecognitionDataset(str(part / "images"), str(part / "labels.json"))
    for number, (name, _) in enumerate(dataset.data):
        sample = dataset[number]
        assert min(sample.image.shape) > 0
        yield Path(name).stem, sample.target


def read_by_kraken(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """Yield hash and label of each image, by what ``ketos train -f path -t`` calls for each."""
    library = importlib.import_module("kraken.lib.util")
    os.chdir(folder)
    for name in Path(f"{split}.txt").read_text(encoding="utf-8").splitlines():
        line = library.parse_gt_path(name)
        assert min(line.bbox[2:]) > 0
        yield Path(name).stem, line.text


READERS = {"doctr": read_by_doctr, "kraken": read_by_kraken}


def main(name: str, folder: Path) -> None:
    """Compare what a library reads with the manifest."""
    with (folder / "manifest.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    wanted = {record["sha256"]: record["label"] for record in records}
    found: dict[str, str] = {}
    for split in sorted({record["split"] for record in records}):
        found.update(READERS[name](folder, split))
    assert found == wanted, "what is read is not what the manifest says"
    sys.stdout.write(f"{len(found)} images, each with its label, by {name}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute())
