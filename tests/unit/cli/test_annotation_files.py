"""Rows that can't be read cost no others, and are named for a person to find them."""

from pathlib import Path

from services.cli.annotation_files import InvalidRow, Row, open_annotations


def rows_of(path: Path, text: str) -> list[Row | InvalidRow]:
    path.write_text(text, encoding="utf-8")
    with open_annotations(path) as file:
        return list(file.rows())


def test_open_quote_costs_only_its_own_row(tmp_path: Path) -> None:
    text = 'key,text\n1.png,one\n2.png,"open\n3.png,three\n4.png,four\n'

    first, problem, *others = rows_of(tmp_path / "a.csv", text)

    assert first == Row(2, "1.png", "one", None)
    assert isinstance(problem, InvalidRow)
    assert problem.line == 3
    assert others == [Row(4, "3.png", "three", None), Row(5, "4.png", "four", None)]


def test_bad_row_of_one_line_takes_no_other_with_it(tmp_path: Path) -> None:
    text = 'key,text\n1.png,"one" two\n2.png,two\n'

    problem, second = rows_of(tmp_path / "a.csv", text)

    assert isinstance(problem, InvalidRow)
    assert second == Row(3, "2.png", "two", None)


def test_number_in_json_is_taken_as_it_is_written(tmp_path: Path) -> None:
    [row] = rows_of(tmp_path / "a.jsonl", '{"key": "1.png", "text": 12.50}\n')

    assert row == Row(1, "1.png", "12.50", None)


def test_value_in_json_that_is_no_text_is_told(tmp_path: Path) -> None:
    [problem] = rows_of(tmp_path / "a.jsonl", '{"key": "1.png", "text": ["a"]}\n')

    assert isinstance(problem, InvalidRow)
    assert "not text" in problem.detail


def test_hash_names_an_image_where_no_other_column_does(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "a.csv", "sha256,text\nab,one\n") == [Row(2, "ab", "one", None)]
    named = rows_of(tmp_path / "b.csv", "sha256,text,file_name\nab,one,1.png\n")
    assert named == [Row(2, "1.png", "one", None)]
