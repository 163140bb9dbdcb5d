"""The servers of a local installation are started with what they need and no more."""

from pathlib import Path

from infra.local.ports import pick_free_ports
from infra.local.servers import Home, prometheus
from infra.local.settings import LocalSettings


def test_no_page_can_stop_prometheus(tmp_path: Path) -> None:
    home = Home(LocalSettings(folder=tmp_path), pick_free_ports())

    program = prometheus(Path("prometheus"), home, config=tmp_path / "prometheus.yml")

    assert not [option for option in program.argv if "lifecycle" in option or "admin" in option]
    assert any(option.startswith("--web.listen-address=127.0.0.1:") for option in program.argv)
