"""The weights in rapidocr's wheel, cut to an alphabet, and those that were trained from them.

The model's last layer scores all characters of all scripts: 120 x 18,710 numbers for each step.
Without the columns of characters outside the alphabet it is much faster, and never reads other
scripts.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from app.engines.alphabet import is_allowed
from app.engines.settings import AlphabetName

MODEL_FILE = "PP-OCRv6_rec_small.onnx"
TRAINED_FILE, CHARACTERS_FILE = "weights.onnx", "characters.txt"
"""Of a trained model; the characters but for the blank, one a line, in the columns' order."""
LANGUAGE_FILE = "language.json"
"""Of a trained model: how often each character followed up to five others."""
BLANK = ""
"""First of the characters, the blank (CTC)."""

TO_DO = "copy the files of the training back, or serve another model"
"""About a file that is not as the training wrote it."""
_NO_CHARACTERS = "\0\r"
"""NumPy drops the first at the end of a text; the second is of a file with other line ends."""
_CHARACTERS = "character"
"""Key of the characters in the model's metadata."""


@dataclass(frozen=True)
class Weights:
    """A model and its characters by column."""

    model: bytes
    """ONNX: N x 3 x 48 x width in, N x steps x characters out, each a probability."""
    characters: NDArray[np.str_]


class UnexpectedModelError(ValueError):
    """The files of a model are damaged, too large, or not those of PP-OCRv6 small."""


def load_weights(alphabet: AlphabetName, *, also: AbstractSet[str] = frozenset()) -> Weights:
    """Read the weights of the wheel.

    Args:
        alphabet: Which of its characters are kept.
        also: Characters that are kept whatever the alphabet, where the model has them.

    Raises:
        FileNotFoundError: The wheel does not hold them; nothing is downloaded instead.
        UnexpectedModelError: The model is not the expected one.
    """
    model = onnx.load(_model_path())
    characters = _characters(model)
    kept = [
        number
        for number, each in enumerate(characters)
        if each == BLANK or each in also or is_allowed(each, alphabet)
    ]
    if len(kept) < len(characters):
        _take(model, kept, len(characters))
    return Weights(model.SerializeToString(), np.array(characters)[kept])


def grow(weights: Weights, added: Sequence[str], likes: Sequence[str]) -> Weights:
    """Return a model with columns for further characters.

    Args:
        weights: The model.
        added: Characters that it has not.
        likes: Of each the character whose column is copied, to begin with: the model has it.
    """
    model = onnx.load_from_string(weights.model)
    columns = {character: number for number, character in enumerate(weights.characters)}
    count = len(columns)
    _take(model, [*range(count), *(columns[each] for each in likes)], count)
    return Weights(model.SerializeToString(), np.append(weights.characters, added))


def parse_trained(contents: Mapping[str, bytes], *, folder: Path) -> Weights:
    """Return the weights of files that have been read from a folder.

    Raises:
        UnexpectedModelError: A file is missing or damaged, or they do not belong together.
    """
    if missing := {TRAINED_FILE, CHARACTERS_FILE} - contents.keys():
        raise UnexpectedModelError(f"{folder} has no {' and no '.join(sorted(missing))}")
    characters = [BLANK, *_parse_characters(contents[CHARACTERS_FILE], folder / CHARACTERS_FILE)]
    columns = _count_columns(contents[TRAINED_FILE], folder / TRAINED_FILE)
    if columns != len(characters):
        raise UnexpectedModelError(
            f"{folder}: {CHARACTERS_FILE} has {len(characters)} characters with the blank, and "
            f"{TRAINED_FILE} has {columns} columns"
        )
    return Weights(contents[TRAINED_FILE], np.array(characters))


def _parse_characters(content: bytes, path: Path) -> list[str]:
    try:
        characters = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise damaged(path, "it is not UTF-8") from error
    for number, each in enumerate(characters, start=1):
        if len(each) != 1 or each in _NO_CHARACTERS:
            raise damaged(path, f"line {number} is not one character")
    if len({*characters}) < len(characters):
        [twice, _] = Counter(characters).most_common(1)[0]
        raise damaged(path, f"it has {twice!r} more than once")
    return characters


def _count_columns(content: bytes, path: Path) -> int:
    """Return the number of columns of a model that opens no other file."""
    try:
        model = onnx.load_from_string(content)
        columns: int = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    except Exception as error:  # protobuf's, whose class is no part of onnx, or a part is missing
        raise damaged(path, "it is no ONNX model of the recogniser") from error
    if any(each.data_location == TensorProto.EXTERNAL for each in _tensors(model)):
        raise damaged(path, "it names other files that hold weights")
    return columns


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Yield all tensors: initializers, and attributes of nodes, also of nested graphs."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if isinstance(value, Iterable) else [value]:
                yield from _tensors(each)


def damaged(path: Path, problem: str) -> UnexpectedModelError:
    """Return the error of a file, with what to do."""
    return UnexpectedModelError(f"{path} is damaged: {problem}; {TO_DO}")


def write_trained(folder: Path, weights: Weights) -> None:
    """Write weights into a folder."""
    model = onnx.load_from_string(weights.model)
    del model.metadata_props[:]  # lists the characters of the wheel
    (folder / TRAINED_FILE).write_bytes(model.SerializeToString())
    lines = "".join(f"{each}\n" for each in weights.characters[1:])
    (folder / CHARACTERS_FILE).write_text(lines, encoding="utf-8", newline="\n")


def _model_path() -> Path:
    package = find_spec("rapidocr")  # not imported, which takes a second
    for folder in package.submodule_search_locations or [] if package else []:
        path = Path(folder) / "models" / MODEL_FILE
        if path.is_file():
            return path
    raise FileNotFoundError(f"rapidocr's wheel has no {MODEL_FILE}")


def _characters(model: ModelProto) -> list[str]:
    listed = [each.value for each in model.metadata_props if each.key == _CHARACTERS]
    if not listed:
        raise UnexpectedModelError("the model does not list its characters")
    return [BLANK, *listed[0].split("\n"), " "]


def _take(model: ModelProto, columns: Sequence[int], count: int) -> None:
    """Rebuild the last layer, a product and a sum, from some of its columns."""
    ends = [each for each in model.graph.initializer if each.dims and each.dims[-1] == count]
    shapes = sorted(len(each.dims) for each in ends)
    if shapes != [1, 2]:
        raise UnexpectedModelError(f"no single last layer of {count} columns")
    for tensor in ends:
        _change(tensor, lambda values: values[..., list(columns)])
    model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value = len(columns)
    del model.graph.value_info[:]


def _change(tensor: TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    values = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
