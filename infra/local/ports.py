"""Find free ports and owners of ports on 127.0.0.1."""

import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from infra.local.errors import LocalError, PortInUseError
from infra.local.settings import Ports

HOST = "127.0.0.1"
LOWEST_FREE_PORT = 20_000
ATTEMPTS = 1_000
RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def check_ports_free(ports: Ports, fields: Iterable[str]) -> None:
    """Check that the ports of these fields are free.

    Raises:
        PortInUseError: One is in use; the message names the process and the setting.
    """
    for field in fields:
        port = getattr(ports, field)
        if not _is_free(port):
            raise PortInUseError(
                port,
                server=(Ports.model_fields[field].description or field).rstrip("."),
                variable=Ports.variable(field),
                holder=holder_of(port),
            )


def pick_free_ports() -> Ports:
    """Return ports that were free a moment ago, all below those of outgoing connections.

    Raises:
        LocalError: Too few are free.
    """
    highest = _lowest_outgoing_port() - 1
    fields = list(Ports.model_fields)
    chance = random.SystemRandom()  # an unseeded generator, as equal seeds would give equal ports
    with ExitStack() as held:
        picked: list[int] = []
        for _ in range(ATTEMPTS):
            port = chance.randint(LOWEST_FREE_PORT, highest)
            held_socket = held.enter_context(socket.socket())
            with suppress(OSError):
                held_socket.bind((HOST, port))
                picked.append(port)
            if len(picked) == len(fields):
                return Ports.model_validate(dict(zip(fields, picked, strict=True)))
    raise LocalError(f"fewer than {len(fields)} of {ATTEMPTS} ports tried are free")


def holder_of(port: int) -> str | None:
    """Return name and id of the process that listens on a port, if visible."""
    inodes = _listening_inodes(port)
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(descriptor.readlink()) in inodes:
                process = descriptor.parent.parent
                name = (process / "comm").read_text().strip()
                return f"{name} (process {process.name})"
    return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections in TIME_WAIT do not occupy the port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{rest[5]}]")
    return inodes


def _lowest_outgoing_port() -> int:
    try:
        return int(RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
