"""The servers in Docker, for a machine where an engine answers."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import SecretStr
from testcontainers.community.minio import MinioContainer
from testcontainers.community.mongodb import MongoDbContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy

from infra.local.servers import notification_environment
from infra.local.stack import Addresses
from tests.support.notifying import target_at_once

DOCKER_SOCKET = Path("/var/run/docker.sock")
PLUGINS = Path(__file__).parents[2] / "infra/docker/rabbitmq/enabled_plugins"
RABBITMQ_IMAGE = "rabbitmq:4.1-management-alpine"
MONGO_IMAGE = "mongo:8.0"
USER = PASSWORD = "docreco-tests"
AMQP_PORT, MANAGEMENT_PORT = 5672, 15672


def engine_answers() -> bool:
    """Say whether a Docker engine answers."""
    if "DOCKER_HOST" not in os.environ and not DOCKER_SOCKET.exists():
        return False
    try:
        DockerClient().client.ping()
    except Exception:  # noqa: BLE001  whatever is wrong with Docker, there are child processes
        return False
    return True


@contextmanager
def containers(*, minio_image: str) -> Iterator[Addresses]:
    """Run the servers in a network of their own, where MinIO finds RabbitMQ."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        rabbitmq = DockerContainer(RABBITMQ_IMAGE)
        rabbitmq.with_env("RABBITMQ_DEFAULT_USER", USER).with_env("RABBITMQ_DEFAULT_PASS", PASSWORD)
        rabbitmq.with_exposed_ports(AMQP_PORT, MANAGEMENT_PORT)
        rabbitmq.with_volume_mapping(str(PLUGINS), "/etc/rabbitmq/enabled_plugins")
        rabbitmq.with_network(network).with_network_aliases("rabbitmq")
        rabbitmq.waiting_for(HttpWaitStrategy(MANAGEMENT_PORT, "/"))
        stack.enter_context(rabbitmq)
        minio = MinioContainer(minio_image, access_key=USER, secret_key=PASSWORD)
        amqp_url = f"amqp://{USER}:{PASSWORD}@rabbitmq:5672/"
        usual = notification_environment(amqp_url, queue_dir="/tmp/events")  # noqa: S108
        for name, value in {**usual, **target_at_once(amqp_url)}.items():
            minio.with_env(name, value)
        minio.with_env("MINIO_ROOT_USER", USER).with_env("MINIO_ROOT_PASSWORD", PASSWORD)
        minio.with_network(network)
        stack.enter_context(minio)
        mongo = stack.enter_context(MongoDbContainer(MONGO_IMAGE))
        host = rabbitmq.get_container_host_ip()
        yield Addresses(
            s3_endpoint_url=f"http://{minio.get_config()['endpoint']}",
            s3_access_key_id=USER,
            s3_secret_access_key=SecretStr(PASSWORD),
            amqp_url=SecretStr(
                f"amqp://{USER}:{PASSWORD}@{host}:{rabbitmq.get_exposed_port(AMQP_PORT)}/"
            ),
            rabbitmq_management_url=(f"http://{host}:{rabbitmq.get_exposed_port(MANAGEMENT_PORT)}"),
            rabbitmq_management_user=USER,
            rabbitmq_management_password=SecretStr(PASSWORD),
            mongo_url=SecretStr(mongo.get_connection_url()),
        )
