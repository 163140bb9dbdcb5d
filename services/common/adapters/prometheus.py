"""Client of Prometheus' HTTP API."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, HttpUrl, ValidationError

from services.common.domain.errors import UnavailableError

Model = TypeVar("Model", bound=BaseModel)


class PrometheusUnavailableError(UnavailableError):
    """Prometheus does not answer, or not as Prometheus."""

    code = "prometheus_unavailable"
    dependency = "prometheus"


class Series(BaseModel):
    """Last value of a time series."""

    metric: dict[str, str]
    """Its labels."""
    value: tuple[float, float]
    """Unix time and value."""


class Alert(BaseModel):
    """A pending or firing alert."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: str

    @property
    def name(self) -> str:
        """Name of its rule."""
        return self.labels.get("alertname", "")


class _Series(BaseModel):
    result: list[Series]


class _Alerts(BaseModel):
    alerts: list[Alert]


class Prometheus:
    """Asks Prometheus; every method may raise PrometheusUnavailableError."""

    def __init__(self, session: aiohttp.ClientSession, url: HttpUrl) -> None:
        self._session = session
        self._url = f"{str(url).rstrip('/')}/api/v1"

    async def query(self, expression: str) -> list[Series]:
        """Return the series of an expression now."""
        return (await self._ask(_Series, "query", {"query": expression})).result

    async def alerts(self) -> list[Alert]:
        """Return the pending and firing alerts."""
        return (await self._ask(_Alerts, "alerts", {})).alerts

    async def _ask(self, kind: type[Model], path: str, params: Mapping[str, str]) -> Model:
        try:
            async with self._session.get(
                f"{self._url}/{path}", params=params, raise_for_status=True
            ) as response:
                said = await response.json()
                return kind.model_validate(said["data"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise PrometheusUnavailableError(reason) from error
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            raise PrometheusUnavailableError("the answer is not Prometheus'") from error


@asynccontextmanager
async def open_prometheus(url: HttpUrl, *, timeout_seconds: float) -> AsyncIterator[Prometheus]:
    """Open a client for an ``async with`` block; it connects lazily."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        yield Prometheus(session, url)
