"""Where training starts: from a checkpoint, or from a tiny recogniser with random weights."""

import math
from collections.abc import Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    PreTrainedTokenizerFast,
    TrOCRConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
)

from app.engines.settings import ModelsSettings, TrocrSettings
from app.engines.trocr import Checkpoint, load_checkpoint

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""Tokens that are no character, in TrOCR's order."""
BEGIN, PADDING, END, UNKNOWN = range(len(SPECIAL))

HEIGHT = 32
PATCH_HEIGHT, PATCH_WIDTH = 16, 8
WIDTH_OF_A_CHARACTER = 16
LEAST_WIDTH, LARGEST_WIDTH = 128, 512
"""Pixels; every image is stretched to the model's size."""
WIDTH = 64
"""Of the vectors inside."""
LONGEST_TEXT = 1024
"""Tokens; as many as ``OCR_TROCR_MAX_TOKENS`` may allow."""
SPREAD = 0.1
"""Of the random weights: the usual 0.02 is for models ten times as wide, and learns nothing here
within minutes."""
SLOWEST_WAVE = 100.0


def open_model(name: str) -> Checkpoint:
    """Load a checkpoint as the engine ``trocr`` does: a name in the models folder, or a folder.

    Raises:
        OSError: There is none, or it has no weights as safetensors.
    """
    return load_checkpoint(TrocrSettings(trocr_model=name), ModelsSettings().models)


def new_model(texts: Sequence[str]) -> Checkpoint:
    """Make a TrOCR of 0.2 million random weights that can write the characters of some texts.

    Its random weights are torch's next ones: ``torch.manual_seed`` makes it the same each time.
    """
    model = VisionEncoderDecoderModel(config=_config(texts))
    _tell_places_apart(model)
    model.generation_config.update(decoder_start_token_id=END, **_NAMES)
    size = {"height": HEIGHT, "width": _image_width(texts)}
    return Checkpoint(
        model=model,
        tokenizer=_tokenizer(texts),
        image_processor=ViTImageProcessorPil(size=size),
        version="random weights",
    )


_NAMES = {"bos_token_id": BEGIN, "pad_token_id": PADDING, "eos_token_id": END}


def _config(texts: Sequence[str]) -> VisionEncoderDecoderConfig:
    encoder = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * WIDTH,
        image_size=(HEIGHT, _image_width(texts)),
        patch_size=(PATCH_HEIGHT, PATCH_WIDTH),
        initializer_range=SPREAD,
    )
    decoder = TrOCRConfig(
        vocab_size=len(SPECIAL) + len(_characters(texts)),
        d_model=WIDTH,
        decoder_layers=1,
        decoder_attention_heads=4,
        decoder_ffn_dim=2 * WIDTH,
        cross_attention_hidden_size=WIDTH,
        max_position_embeddings=LONGEST_TEXT,
        dropout=0.0,
        init_std=SPREAD,
        decoder_start_token_id=END,
        **_NAMES,
    )
    return VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)


def _image_width(texts: Sequence[str]) -> int:
    wanted = WIDTH_OF_A_CHARACTER * max(map(len, texts))
    return min(max(wanted, LEAST_WIDTH), LARGEST_WIDTH)


def _characters(texts: Sequence[str]) -> list[str]:
    return sorted(set().union(*texts))


def _tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return one that makes a token of each character."""
    tokens = (*SPECIAL, *_characters(texts))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[BEGIN],
        pad_token=SPECIAL[PADDING],
        eos_token=SPECIAL[END],
        unk_token=SPECIAL[UNKNOWN],
    )


def _tell_places_apart(model: VisionEncoderDecoderModel) -> None:
    """Give the patches sines and cosines for places: near ones are alike from the first step on.

    Vaswani et al., "Attention Is All You Need", section 3.5, https://arxiv.org/abs/1706.03762.
    """
    places = model.encoder.embeddings.position_embeddings
    steps = torch.arange(places.shape[1])[:, None]
    speeds = torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(SLOWEST_WAVE) / WIDTH))
    with torch.no_grad():
        places[0, :, 0::2] = torch.sin(steps * speeds)
        places[0, :, 1::2] = torch.cos(steps * speeds)
