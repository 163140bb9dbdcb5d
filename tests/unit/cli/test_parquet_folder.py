"""Folders of Parquet files are sent as one file."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from services.cli.errors import CommandError
from services.cli.parquet_folder import merged, parquet_files


def write(path: Path, **columns: list[str]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def test_files_of_a_data_set_are_one_with_their_splits(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "test-00000-of-00001.parquet", url=["c"], text=["3"]),
        write(tmp_path / "train-00000-of-00002.parquet", url=["a"], text=["1"]),
        write(tmp_path / "train-00001-of-00002.parquet", text=["2"], url=["b"]),
    ]
    with merged(paths) as file:
        rows = parquet.read_table(file).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("c", "3", "test"),
        ("a", "1", "train"),
        ("b", "2", "train"),
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_index_of_pandas_is_no_column(tmp_path: Path, order: int) -> None:
    plain = write(tmp_path / "train.parquet", url=["a"], text=["1"])
    frame = write(tmp_path / "test.parquet", url=["b"], text=["2"], __index_level_0__=["7"])
    with merged([plain, frame][::order]) as file:
        assert parquet.read_table(file).column_names == ["url", "text", "split"]


@pytest.mark.parametrize("columns", [("link",), ("url", "text")])
def test_file_with_other_columns_is_named(tmp_path: Path, columns: tuple[str, ...]) -> None:
    others = write(tmp_path / "b.parquet", **{name: ["b"] for name in columns})
    paths = [write(tmp_path / "a.parquet", url=["a"]), others]
    with pytest.raises(CommandError, match=r"b\.parquet.*(link|text)"), merged(paths):
        pass


def test_folder_with_images_is_no_folder_of_parquet_files() -> None:
    tables = {"a.parquet": Path("a.parquet"), "README.md": Path("README.md")}
    assert parquet_files(tables) == [Path("a.parquet")]
    assert parquet_files(tables | {"1.png": Path("1.png")}) == []
