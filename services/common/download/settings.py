"""What a download may reach, and how much and how long."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MEBIBYTE = 1024 * 1024


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)]
"""Networks in CIDR notation, separated by commas."""


class DownloadSettings(BaseSettings):
    """What a download may reach, and how much and how long (``FETCHER_*``)."""

    model_config = SettingsConfigDict(env_prefix="FETCHER_", frozen=True)

    allowed_private_networks: Networks = Field(
        (), description="The only non-public addresses to fetch from: CIDRs, comma-separated."
    )
    max_item_bytes: int = Field(
        20 * MEBIBYTE, ge=1024, description="Largest image, in bytes after decompression."
    )
    connect_timeout_seconds: float = Field(10.0, gt=0, le=60, description="Limit to connect.")
    idle_timeout_seconds: float = Field(
        10.0, gt=0, le=600, description="Limit between two reads of a body."
    )
    total_timeout_seconds: float = Field(
        30.0, gt=0, le=3600, description="Limit of a whole download, redirects included."
    )
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects followed.")
    user_agent: str = Field(
        "docreco-fetcher/0.1", pattern=r"^[!-~]+( [!-~]+)*$", description="Name told to hosts."
    )
    contact: str = Field(
        "",
        pattern=r"^[!-'*-~]*$",
        description="Address or page told to hosts, for their complaints.",
    )
