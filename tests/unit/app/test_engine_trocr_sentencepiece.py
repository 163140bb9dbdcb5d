"""Checkpoints whose vocabulary is a SentencePiece file alone, as that of TrOCR-small is."""

import json
from pathlib import Path

import pytest

from tests.support.tiny_trocr import make_tiny_trocr, need_trocr

need_trocr()
pytest.importorskip("sentencepiece", reason="TrOCR-small's vocabulary needs sentencepiece")

from sentencepiece import sentencepiece_model_pb2  # noqa: E402  of the extra

from app.engines.settings import TrocrSettings  # noqa: E402
from app.engines.trocr import load_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

UNKNOWN, CONTROL, NORMAL = 2, 3, 1
"""Types of pieces (sentencepiece_model.proto)."""


def sentencepiece_file() -> bytes:
    model = sentencepiece_model_pb2.ModelProto()
    pieces = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    pieces += [(letter, NORMAL) for letter in "\N{LOWER ONE EIGHTH BLOCK}abcdefghijklmnopqrstuvwx"]
    for number, (piece, kind) in enumerate(pieces):
        model.pieces.add(piece=piece, score=-number, type=kind)
    model.trainer_spec.model_type = 1
    model.normalizer_spec.name = "identity"
    content: bytes = model.SerializeToString()
    return content


def test_vocabulary_of_sentencepiece_is_read(tmp_path: Path) -> None:
    folder = make_tiny_trocr(tmp_path / "small")
    (folder / "tokenizer.json").unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_file())
    settings = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))

    checkpoint = load_checkpoint(TrocrSettings(trocr_model="small"), tmp_path)

    tokens = checkpoint.tokenizer("abc cab")["input_ids"]
    assert checkpoint.tokenizer.decode(tokens, skip_special_tokens=True) == "abc cab"
