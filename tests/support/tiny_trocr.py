"""A TrOCR-style checkpoint of some kilobytes with random weights, made where it is needed."""

import os
from pathlib import Path

import pytest

LETTERS = "abcdefghijklmnopqrstuvwxyz "
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
IMAGE_SIDE = 32
POSITIONS = 64
"""Longest text, in tokens."""


def need_trocr() -> None:
    """Skip the module where the extra ``trocr`` is not installed; in CI, fail."""
    if os.environ.get("CI"):
        return
    pytest.importorskip("torch", reason="needs the extra trocr: poetry install --extras trocr")
    pytest.importorskip("transformers", reason="needs the extra trocr")


def make_tiny_trocr(folder: Path) -> Path:
    """Save a checkpoint; equal each time."""
    import torch  # noqa: PLC0415  of the extra
    from tokenizers import Tokenizer, decoders  # noqa: PLC0415
    from tokenizers.models import WordLevel  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        PreTrainedTokenizerFast,
        TrOCRConfig,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )

    with torch.random.fork_rng():
        torch.manual_seed(3)
        names = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
        encoder = ViTConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=IMAGE_SIDE,
            patch_size=8,
            initializer_range=0.5,
        )
        decoder = TrOCRConfig(
            vocab_size=len(SPECIAL) + len(LETTERS),
            d_model=32,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=32,
            cross_attention_hidden_size=32,
            max_position_embeddings=POSITIONS,
            init_std=0.5,
            decoder_start_token_id=2,
            **names,
        )
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        model = VisionEncoderDecoderModel(config=config)
    model.generation_config.update(decoder_start_token_id=2, **names)
    vocabulary = {each: number for number, each in enumerate((*SPECIAL, *LETTERS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    size = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    ViTImageProcessorPil(size=size).save_pretrained(folder)
    return folder
