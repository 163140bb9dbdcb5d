"""What is said of rows that are none, so that a person finds them in the file."""

from pathlib import Path

from services.cli.annotation_files import Problem, Row, open_annotations


def rows_of(path: Path, text: str) -> list[Row | Problem]:
    path.write_text(text, encoding="utf-8")
    with open_annotations(path) as file:
        return list(file.rows())


def test_rows_behind_an_open_quote_are_named(tmp_path: Path) -> None:
    text = 'key,text\n1.png,one\n2.png,"open\n3.png,three\n4.png,four\n'

    first, problem = rows_of(tmp_path / "a.csv", text)

    assert first == Row(2, "1.png", "one", None)
    assert isinstance(problem, Problem)
    assert problem.line == 3
    assert "lines 3 to 5 are left out" in problem.detail


def test_bad_row_of_one_line_takes_no_other_with_it(tmp_path: Path) -> None:
    text = 'key,text\n1.png,"one" two\n2.png,two\n'

    problem, second = rows_of(tmp_path / "a.csv", text)

    assert isinstance(problem, Problem)
    assert "left out" not in problem.detail
    assert second == Row(3, "2.png", "two", None)


def test_number_in_json_is_told_to_be_no_text(tmp_path: Path) -> None:
    [problem] = rows_of(tmp_path / "a.jsonl", '{"key": "1.png", "text": 1234}\n')

    assert isinstance(problem, Problem)
    assert "strings" in problem.detail
