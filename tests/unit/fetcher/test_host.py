"""Pauses of a host."""

from services.fetcher.politeness.host import LONGEST_PAUSE_SECONDS, Host


def test_long_throttling_host_is_asked_every_ten_minutes() -> None:
    host, now = Host("example.org"), 0.0
    for _ in range(1100):
        host.throttled(now, None)
        assert host.paused_until - now <= 1.25 * LONGEST_PAUSE_SECONDS
        now = host.paused_until
    assert now > 1000 * 0.75 * LONGEST_PAUSE_SECONDS
