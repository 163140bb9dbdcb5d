"""Settings of the engines."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

RuntimeName = Literal["auto", "onnxruntime", "openvino"]
PrecisionName = Literal["auto", "f32", "bf16"]
AlphabetName = Literal["latin", "all"]

TROCR_MODEL = "microsoft/trocr-small-handwritten"
TROCR_REVISION = "959398e1e35ce99c83e60f83b35c1187d4508a0b"
"""First commit with the weights as safetensors."""


UNCALIBRATED = Path("none")


class RapidSettings(BaseSettings):
    """Engine ``rapidocr`` (``OCR_*``)."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True)

    model: str = Field(
        "",
        description="Name of a trained model in the folder of models, or `ppocrv6`, the embedded "
        "one; empty: what `docreco models promote` has put into service, else the embedded one.",
    )
    runtime: RuntimeName = Field(
        "onnxruntime",
        description="Runtime of the embedded model; `auto`: OpenVINO in bfloat16 where the "
        "processor declares `amx_bf16`, else onnxruntime. It is part of `model_version`.",
    )
    precision: PrecisionName = Field(
        "auto",
        description="Precision; `auto`: bf16 on OpenVINO where the processor "
        "declares `amx_bf16`, else f32. Only f32 gives the same scores on all processors.",
    )
    alphabet: AlphabetName = Field(
        "latin",
        description="Characters that the embedded model may read: those of Latin scripts, or all "
        "18,710, which takes longer. A trained model has an alphabet of its own.",
    )


class ModelsSettings(BaseSettings):
    """Models of the OCR API (``OCR_*``)."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True)

    models: Path = Field(Path(".models"), description="Folder of `docreco models`.")
    calibration: Path | None = Field(
        None,
        description="File of `docreco calibrate` that turns the model's scores into probabilities; "
        "`none`: scores as the model gives them; empty: the calibration that belongs to the model.",
    )


class TrocrSettings(BaseSettings):
    """Engine ``trocr`` (``OCR_*``)."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True)

    trocr_model: str = Field(
        TROCR_MODEL,
        min_length=1,
        description="A name in the folder of models, a folder, or a name on the Hugging Face hub.",
    )
    trocr_revision: str = Field(
        TROCR_REVISION,
        min_length=1,
        description="Commit, tag or branch on the hub; a folder has none.",
    )
    trocr_int8: bool = Field(
        False,
        description="Whether a CPU computes with 8-bit weights: 1.5 times as fast; each image is "
        "read alone.",
    )
    trocr_max_tokens: int = Field(
        128, ge=1, le=1024, description="Longest text, in the model's tokens."
    )
