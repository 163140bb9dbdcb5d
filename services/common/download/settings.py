"""Settings of downloads: allowed addresses, limits, robots rules."""

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.common.domain.sizes import MAX_IMAGE_BYTES, MEBIBYTE
from services.common.runtime.settings import VERSION


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)]
"""Networks in CIDR notation, separated by commas."""
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Names, separated by commas."""


class DownloadSettings(BaseSettings):
    """Download limits and rules (``FETCHER_*``)."""

    model_config = SettingsConfigDict(env_prefix="FETCHER_", frozen=True)

    allowed_private_networks: Networks = Field(
        (), description="Non-public networks to fetch from: CIDRs, comma-separated."
    )
    max_item_bytes: int = Field(
        MAX_IMAGE_BYTES, ge=1024, description="Largest image, in bytes after decompression."
    )
    max_page_bytes: int = Field(
        100 * MEBIBYTE, ge=1024, description="Largest page or PDF, in bytes after decompression."
    )
    connect_timeout_seconds: float = Field(10.0, gt=0, le=60, description="Connect timeout.")
    idle_timeout_seconds: float = Field(10.0, gt=0, le=600, description="Read timeout of a body.")
    total_timeout_seconds: float = Field(
        30.0, gt=0, le=3600, description="Total timeout of a download, redirects included."
    )
    max_redirects: int = Field(5, ge=0, le=20, description="Limit of redirects.")
    user_agent: str = Field(
        f"docreco-fetcher/{VERSION}",
        pattern=r"^[A-Za-z_-]+[!-~]*( [!-~]+)*$",
        description="User-Agent; its leading letters are the name in robots.txt.",
    )
    contact: str = Field(
        "",
        pattern=r"^[!-'*-~]*$",
        description="Contact address or page in the User-Agent, for complaints of hosts.",
    )
    robots: Literal["obey", "ignore"] = Field(
        "obey", description="Handling of a host's robots.txt."
    )
    robots_tag: Literal["obey", "ignore"] = Field(
        "obey",
        description="Handling of X-Robots-Tag: noai or noimageai; obeyed, the image is not stored.",
    )
    redact_query: Names = Field(
        (
            *("token", "secret", "password", "passwd", "pwd", "passphrase", "credential"),
            *("auth", "authorization", "bearer", "jwt", "session", "sessionid", "sessid"),
            *("sig", "signature", "hmac", "sas", "policy", "hdnts", "hdnea", "hdntl", "gda"),
            *("api_key", "access_key", "access_key_id", "private_key", "subscription_key"),
            *("consumer_key", "account_key", "key_pair_id", "google_access_id", "wskey"),
        ),
        description="Parameters whose values are not kept with a source URL, comma-separated: a "
        "name, or words within one, in any case and spelling.",
    )

    @property
    def robots_agent(self) -> str:
        """The fetcher's product token in robots.txt and X-Robots-Tag (RFC 9309, 2.2.1)."""
        found = re.match(r"[A-Za-z_-]+", self.user_agent)
        assert found  # noqa: S101  see the pattern of user_agent
        return found[0]
