"""RabbitMQ's set-up through its management API (HTTP API reference: ``/api/definitions``)."""

from http import HTTPStatus

import aiohttp

from services.common.errors import BrokerUnavailableError, PermanentError
from services.provisioner.settings import RabbitmqManagementSettings

_TIMEOUT = aiohttp.ClientTimeout(total=30)


class DefinitionsRefusedError(PermanentError):
    """RabbitMQ refuses the definitions, for instance because a queue exists otherwise."""

    code = "definitions_refused"


async def apply_definitions(settings: RabbitmqManagementSettings, definitions: bytes) -> None:
    """Declare what ``definitions`` (JSON) lists; what is there already stays.

    Raises:
        BrokerUnavailableError: The management API does not answer.
        DefinitionsRefusedError: It answers, and refuses.
    """
    auth = aiohttp.BasicAuth(settings.user, settings.password.get_secret_value())
    url = f"{str(settings.url).rstrip('/')}/api/definitions"
    try:
        async with (
            aiohttp.ClientSession(auth=auth, timeout=_TIMEOUT, trust_env=False) as session,
            session.post(
                url,
                data=definitions,
                headers={"Content-Type": "application/json"},
            ) as response,
        ):
            status, answer = response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BrokerUnavailableError(f"{url}: {error}") from error
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise BrokerUnavailableError(f"{url}: HTTP {status}")
    if status >= HTTPStatus.BAD_REQUEST:
        raise DefinitionsRefusedError(f"{url}: HTTP {status}: {answer[:500]}")
