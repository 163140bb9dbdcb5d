"""Ports: a taken one is named with who holds it, and free ones stay out of the kernel's way."""

import os
import socket
from pathlib import Path

import pytest

from infra.local import ports as ports_module
from infra.local.errors import LocalError, PortInUseError
from infra.local.ports import HOST, check_ports_free, pick_free_ports
from infra.local.settings import Ports


def test_port_in_use_is_named_with_its_holder_and_its_variable() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        ports = Ports(minio_port=port)
        with pytest.raises(PortInUseError, match="LOCAL_MINIO_PORT") as raised:
            check_ports_free(ports, ["minio_port"])
    assert raised.value.port == port
    assert raised.value.holder is not None
    assert str(os.getpid()) in raised.value.holder
    assert "MinIO" in str(raised.value)


def test_free_ports_differ_and_lie_below_the_ephemeral_ones() -> None:
    picked = list(pick_free_ports().model_dump().values())
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(picked)) == len(picked)
    assert all(1024 < port < lowest_outgoing for port in picked)
    check_ports_free(pick_free_ports(), Ports.model_fields)


def test_every_usual_port_is_its_own() -> None:
    usual = list(Ports.model_construct().model_dump().values())
    assert len(set(usual)) == len(usual)


def test_each_port_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, field in enumerate(Ports.model_fields, start=20_000):
        monkeypatch.setenv(Ports.variable(field), str(number))
    assert list(Ports().model_dump().values()) == list(
        range(20_000, 20_000 + len(Ports.model_fields))
    )


def test_too_few_free_ports_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports_module, "ATTEMPTS", 3)
    with pytest.raises(LocalError, match="free"):
        pick_free_ports()
