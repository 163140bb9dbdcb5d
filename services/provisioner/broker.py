"""Set up RabbitMQ through its management API (HTTP API reference: ``/api/definitions``)."""

import json
from http import HTTPStatus
from typing import Any

import aiohttp

from services.common.domain.errors import BrokerUnavailableError, PermanentError
from services.common.runtime.settings import RabbitmqManagementSettings

_TIMEOUT = aiohttp.ClientTimeout(total=30)


class DefinitionsRefusedError(PermanentError):
    """RabbitMQ refuses the definitions, or has a queue or exchange with other properties."""

    code = "definitions_refused"


async def apply_definitions(settings: RabbitmqManagementSettings, definitions: bytes) -> None:
    """Declare the objects of ``definitions`` (JSON); existing ones are kept.

    Raises:
        BrokerUnavailableError: The management API does not answer.
        DefinitionsRefusedError: It refuses; or an object of the same name has other properties,
            which RabbitMQ's import ignores silently.
    """
    login = aiohttp.encode_basic_auth(settings.user, settings.password.get_secret_value())
    url = f"{str(settings.url).rstrip('/')}/api/definitions"
    headers = {"Authorization": login, "Content-Type": "application/json"}
    try:
        async with aiohttp.ClientSession(
            headers=headers, timeout=_TIMEOUT, trust_env=False
        ) as session:
            async with session.post(url, data=definitions) as response:
                await _raise_for_status(response)
            async with session.get(url) as response:
                await _raise_for_status(response)
                present = await response.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BrokerUnavailableError(f"{url}: {error}") from error
    _compare(json.loads(definitions), present)


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise BrokerUnavailableError(f"{response.url}: HTTP {response.status}")
    if response.status >= HTTPStatus.BAD_REQUEST:
        answer = (await response.text())[:500]
        raise DefinitionsRefusedError(f"{response.url}: HTTP {response.status}: {answer}")


def _compare(wanted: dict[str, Any], present: dict[str, Any]) -> None:
    for kind in ("exchanges", "queues"):
        by_name = {(item["vhost"], item["name"]): item for item in present[kind]}
        for item in wanted.get(kind, []):
            found = by_name.get((item["vhost"], item["name"]), {})
            differing = {name for name, value in item.items() if found.get(name) != value}
            if differing:
                what = ", ".join(sorted(differing))
                raise DefinitionsRefusedError(
                    f"{kind}: {item['name']} is there with another {what};"
                    " delete it once it is empty, then set up again"
                )
