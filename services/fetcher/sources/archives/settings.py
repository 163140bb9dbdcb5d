"""Limits of archives."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.domain.sizes import MEBIBYTE
from services.fetcher.sources.archives.members import ArchiveLimits


class ArchiveSettings(BaseSettings):
    """Archives of images (``FETCHER_*``)."""

    model_config = SettingsConfigDict(env_prefix="FETCHER_", frozen=True)

    max_archive_bytes: int = Field(1024 * MEBIBYTE, ge=1024, description="Largest archive.")
    max_archive_members: int = Field(
        100_000, ge=1, le=1_000_000, description="Limit of members in an archive."
    )
    max_archive_decoded_bytes: int = Field(
        4096 * MEBIBYTE, ge=1024, description="Limit of all members of an archive, decompressed."
    )
    max_archive_ratio: int = Field(
        200,
        ge=1,
        description="Compression ratio of a member; of a .tar.gz: of the whole beyond 64 MiB.",
    )
    max_spool_bytes: int = Field(
        8192 * MEBIBYTE,
        ge=1024,
        description="Files of lists and archives on this machine's disk (``TMPDIR``) together; "
        "beyond that, lists and archives are refused with ``no_space``.",
    )

    @model_validator(mode="after")
    def _archive_fits_spool(self) -> Self:
        if self.max_archive_bytes + self.max_archive_decoded_bytes > self.max_spool_bytes:
            raise ValueError(
                "max_spool_bytes must have room for an archive and what gzip made of it: "
                "max_archive_bytes and max_archive_decoded_bytes together"
            )
        return self

    @property
    def limits(self) -> ArchiveLimits:
        """Those that concern members."""
        return ArchiveLimits(
            self.max_archive_members, self.max_archive_decoded_bytes, self.max_archive_ratio
        )
