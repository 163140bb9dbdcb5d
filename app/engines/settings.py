"""Settings of the engines."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

RuntimeName = Literal["auto", "onnxruntime", "openvino"]
AlphabetName = Literal["latin", "all"]


class RapidSettings(BaseSettings):
    """Engine ``rapidocr`` (``OCR_*``)."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True)

    runtime: RuntimeName = Field(
        "auto",
        description="What computes the embedded model; `auto`: whichever is faster at the start.",
    )
    alphabet: AlphabetName = Field(
        "latin",
        description="Characters that may be read: those of Latin scripts, or all 18,710 of the "
        "model, which takes longer.",
    )
