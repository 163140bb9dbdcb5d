from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from services.common.download.settings import DownloadSettings
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.archives.settings import ArchiveSettings


def test_networks_are_read_from_a_comma_separated_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHER_ALLOWED_PRIVATE_NETWORKS", "127.0.0.0/8, fd00::/8,")

    allowed = DownloadSettings().allowed_private_networks

    assert allowed == (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))


def test_no_private_network_is_allowed_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FETCHER_ALLOWED_PRIVATE_NETWORKS", raising=False)

    assert DownloadSettings().allowed_private_networks == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FETCHER_ALLOWED_PRIVATE_NETWORKS", "127.0.0.1/8"),
        ("FETCHER_MAX_REDIRECTS", "-1"),
        ("FETCHER_USER_AGENT", "a\nb"),
        ("FETCHER_CONTACT", "me)"),
    ],
)
def test_bad_setting_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match=name.removeprefix("FETCHER_").lower()):
        DownloadSettings()


def test_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHER_API_TOKEN", "hush-hush")

    assert "hush" not in repr(FetcherSettings())


def test_room_for_no_archive_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_spool_bytes"):
        ArchiveSettings(
            max_archive_bytes=2000, max_archive_decoded_bytes=2000, max_spool_bytes=3999
        )
