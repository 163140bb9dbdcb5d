"""Definitions of the servers as child processes: command, files, environment, readiness.

See docs/decisions/0006-secantusdb-as-local-stand-in.md.
"""

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path

from infra.local.ports import HOST
from infra.local.probes import accepts, all_of, answers, speaks_amqp, speaks_mongo
from infra.local.settings import LocalSettings, Ports, child_environment
from infra.local.supervisor import Program
from services.provisioner.notification_rules import MOST_TARGETS
from services.provisioner.settings import ProvisionerSettings

NOTIFICATION_QUEUE_LIMIT = 1_000_000  # beyond it MinIO answers 200 and loses the event
RABBITMQ_NODE = "docreco@localhost"  # part of its data, so independent of the ports
RABBITMQ_PLUGINS = "[rabbitmq_management,rabbitmq_prometheus,rabbitmq_consistent_hash_exchange]."
STOP_TIMEOUT_SECONDS = 30.0
CONSUMER_TIMEOUT_MS = 7_200_000
"""RabbitMQ's limit of holding a delivery; as in infra/docker and k8s."""


@dataclass(frozen=True)
class Home:
    """Folder and ports of a set of servers."""

    settings: LocalSettings
    ports: Ports

    @property
    def amqp_url(self) -> str:
        """Address of RabbitMQ, with user and password."""
        user, password = self.settings.rabbitmq_user, self.settings.rabbitmq_password
        return f"amqp://{user}:{password.get_secret_value()}@{HOST}:{self.ports.rabbitmq_port}/"

    @property
    def mongo_url(self) -> str:
        """Address of MongoDB."""
        return f"mongodb://{HOST}:{self.ports.mongo_port}"

    def folder(self, name: str) -> Path:
        """Return (or create) the private folder of one server."""
        folder = self.settings.folder.resolve() / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def log_path(self, name: str) -> Path:
        """Return the log file of a program."""
        return self.settings.folder.resolve() / "logs" / f"{name}.log"


def url_of(port: int, path: str = "") -> str:
    """Return the URL of a server on this machine."""
    return f"http://{HOST}:{port}{path}"


def epmd(executable: Path, home: Home) -> Program:
    """Return the port mapper that RabbitMQ needs.

    Otherwise Erlang starts one by itself, as a daemon that is never stopped.
    """
    return Program(
        name="epmd",
        argv=[str(executable), "-address", HOST, "-port", str(home.ports.epmd_port)],
        env=child_environment(),
        cwd=home.folder("rabbitmq"),
        log_path=home.log_path("epmd"),
        is_ready=accepts(home.ports.epmd_port),
    )


def rabbitmq(executable: Path, home: Home) -> Program:
    """Return RabbitMQ with its management and metrics; needs ``epmd`` to run."""
    folder, ports = home.folder("rabbitmq"), home.ports
    user = home.settings.rabbitmq_user
    password = home.settings.rabbitmq_password.get_secret_value()
    _write_private(folder / "rabbitmq.conf", _rabbitmq_conf(ports, user, password))
    (folder / "enabled_plugins").write_text(RABBITMQ_PLUGINS + "\n")
    (folder / "rabbitmq-env.conf").touch()
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        _write_private(cookie, secrets.token_hex(32), mode=0o400)
    return Program(
        name="rabbitmq",
        argv=[str(executable)],
        env=child_environment(_rabbitmq_environment(folder, ports)),
        cwd=folder,
        log_path=home.log_path("rabbitmq"),
        is_ready=all_of(
            speaks_amqp(ports.rabbitmq_port, home.amqp_url),
            answers(
                url_of(ports.rabbitmq_management_port, "/api/whoami"), user=user, password=password
            ),
        ),
        ready_timeout_seconds=120.0,
        stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
    )


def _rabbitmq_environment(folder: Path, ports: Ports) -> dict[str, str]:
    return {
        "HOME": str(folder),  # folder of Erlang's cookie
        "RABBITMQ_BASE": str(folder),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_NODENAME": RABBITMQ_NODE,
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(ports.rabbitmq_port),
        "RABBITMQ_DIST_PORT": str(ports.rabbitmq_distribution_port),
        "ERL_EPMD_PORT": str(ports.epmd_port),
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_CRASH_DUMP_SECONDS": "0",
        # The script execs the server, which then receives the signals
        "RUNNING_UNDER_SYSTEMD": "1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1}"
            " +sbwt none +sbwtdcpu none +sbwtdio none"  # no busy waiting
        ),
    }


def _rabbitmq_conf(ports: Ports, user: str, password: str) -> str:
    lines = {
        "listeners.tcp.local": f"{HOST}:{ports.rabbitmq_port}",
        "management.tcp.ip": HOST,
        "management.tcp.port": ports.rabbitmq_management_port,
        "prometheus.tcp.ip": HOST,
        "prometheus.tcp.port": ports.rabbitmq_metrics_port,
        "prometheus.return_per_object_metrics": "true",
        "consumer_timeout": CONSUMER_TIMEOUT_MS,
        "default_user": user,
        "default_pass": password,
        "log.console": "true",
        "log.console.level": "info",
        "log.file": "false",
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def minio(executable: Path, home: Home) -> Program:
    """Return MinIO, encrypting, with RabbitMQ as the target of its events.

    While RabbitMQ does not answer, it starts, and stores events in a folder.
    """
    folder, ports = home.folder("minio"), home.ports
    return Program(
        name="minio",
        argv=[
            *(str(executable), "server", str(folder / "data")),
            *("--address", f"{HOST}:{ports.minio_port}"),
            *("--console-address", f"{HOST}:{ports.minio_console_port}"),
            *("--certs-dir", str(folder / "certs")),
        ],
        env=child_environment(
            {
                "MINIO_ROOT_USER": home.settings.minio_user,
                "MINIO_ROOT_PASSWORD": home.settings.minio_password.get_secret_value(),
                "MINIO_KMS_SECRET_KEY": _kms_key(folder / "kms-key"),
                "MINIO_PROMETHEUS_AUTH_TYPE": "public",
                "MINIO_SERVER_URL": url_of(ports.minio_port),
                "MINIO_BROWSER_REDIRECT_URL": url_of(ports.minio_console_port),
                "MINIO_UPDATE": "off",
                **notification_environment(
                    home.amqp_url,
                    queue_dir=str(folder / "events"),
                    targets=ProvisionerSettings().notification_targets,
                ),
            }
        ),
        cwd=folder,
        log_path=home.log_path("minio"),
        is_ready=answers(url_of(ports.minio_port, "/minio/health/cluster")),
        stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
    )


def notification_environment(amqp_url: str, *, queue_dir: str, targets: int = 1) -> dict[str, str]:
    """Return the settings that make MinIO publish its events, and store them during outages.

    A target that was there once stays: it may have stored events, and the bucket's rules may still
    name it.

    Args:
        amqp_url: RabbitMQ, as MinIO reaches it.
        queue_dir: MinIO's path of the folder of unconfirmed events.
        targets: Number of targets that share the events of images.
    """
    further = [
        f"raw{number}"
        for number in range(1, MOST_TARGETS)
        if number < targets or Path(queue_dir, f"minio-amqp-RAW{number}").is_dir()
    ]
    settings = {
        f"{name}_{target.upper()}": value
        for target, events, folder, shares in (
            ("raw", "raw", queue_dir, 1),
            *((target, "raw", queue_dir, targets) for target in further),
            ("pages", "pages", f"{queue_dir}-pages", 1),
        )
        for name, value in {
            "ENABLE": "on",
            "URL": amqp_url,
            "EXCHANGE": f"{events}.events",
            "EXCHANGE_TYPE": "topic",
            "ROUTING_KEY": events,
            "NO_WAIT": "on",  # the exchange is there; the event is confirmed nevertheless
            "DURABLE": "on",
            "DELIVERY_MODE": "2",
            "PUBLISHING_CONFIRMS": "on",
            "QUEUE_DIR": folder,
            "QUEUE_LIMIT": str(NOTIFICATION_QUEUE_LIMIT // shares),
        }.items()
    }
    return {
        # A PUT waits until the buckets' rules are loaded; before that, it would have no event
        "MINIO_SYNC_BOOT": "on",
        **{f"MINIO_NOTIFY_AMQP_{name}": value for name, value in settings.items()},
    }


def _kms_key(path: Path) -> str:
    """Return (or create) the key that encrypts the objects; they are lost without it."""
    if not path.exists():
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        _write_private(path, f"docreco:{key}")
    return path.read_text()


def mongo(executable: Path, home: Home) -> Program:
    """Return MongoDB, or SecantusDB if that is the executable."""
    folder, port = home.folder("mongo"), home.ports.mongo_port
    if executable.name == "mongod":
        flags = ["--bind_ip", HOST, "--dbpath", str(folder), "--nounixsocket"]
    else:
        # Without --standalone it poses as a replica set, and plain URLs time out.
        flags = ["--host", HOST, "--storage-path", str(folder), "--sync-on-commit", "--standalone"]
    return Program(
        name="mongo",
        argv=[str(executable), *flags, "--port", str(port)],
        env=child_environment(),
        cwd=folder,
        log_path=home.log_path("mongo"),
        is_ready=speaks_mongo(port, home.mongo_url),
        stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
    )


def prometheus(executable: Path, home: Home, *, config: Path) -> Program:
    """Return Prometheus with a configuration file; rule files are named in there."""
    argv = [str(executable), f"--config.file={config.resolve()}"]
    argv.append(f"--storage.tsdb.path={home.folder('prometheus')}")
    return _monitor("prometheus", home, home.ports.prometheus_port, argv)


def alertmanager(executable: Path, home: Home, *, config: Path) -> Program:
    """Return Alertmanager with a configuration file, on its own: no cluster."""
    argv = [str(executable), f"--config.file={config.resolve()}", "--cluster.listen-address="]
    argv.append(f"--storage.path={home.folder('alertmanager')}")
    return _monitor("alertmanager", home, home.ports.alertmanager_port, argv)


def _monitor(name: str, home: Home, port: int, argv: list[str]) -> Program:
    return Program(
        name=name,
        argv=[*argv, f"--web.listen-address={HOST}:{port}"],
        env=child_environment(),
        cwd=home.folder(name),
        log_path=home.log_path(name),
        is_ready=answers(url_of(port, "/-/ready")),
        stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
    )


def _write_private(path: Path, content: str, *, mode: int = 0o600) -> None:
    """Write a private file atomically."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(content)
    new.chmod(mode)
    new.replace(path)
