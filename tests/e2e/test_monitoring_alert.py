"""The mean score falls, an alert fires, and is resolved when it recovers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from pathlib import Path

from aiohttp import ClientSession

from infra.monitoring.provisioning import GrafanaAlert, grafana_alerts
from infra.monitoring.rules import critical_threshold
from tests.support.handwriting import handwriting, line_text
from tests.support.hastened import hasten
from tests.support.images import line_image
from tests.support.monitoring import Monitoring, open_monitoring
from tests.support.ocr_api import predict
from tests.support.pipeline import Pipeline
from tests.support.waiting import eventually

ALERT = "OcrMeanScoreCritical"
LINES = 24
FASTER = 30
"""Five minutes are ten seconds; the rules' own tests are with the true durations."""


@asynccontextmanager
async def predicting(pipeline: Pipeline, images: Sequence[bytes]) -> AsyncIterator[None]:
    """Send images to the OCR API, again and again, for the length of the block."""

    async def send() -> None:
        async with ClientSession(pipeline.ocr_url) as ocr:
            for image in cycle(images):
                assert await predict(ocr, image) == 200
                await asyncio.sleep(0.1)

    sending = asyncio.create_task(send())
    try:
        yield
        assert not sending.done(), sending
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


async def grafana_fires(monitoring: Monitoring, alert: GrafanaAlert) -> bool:
    """Decide as Grafana's threshold expression does."""
    values = await monitoring.values(hasten(alert.value, FASTER))
    return any(
        value < alert.limit if alert.operator == "lt" else value > alert.limit for value in values
    )


async def test_falling_mean_is_told_and_told_again_when_it_is_well(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    [rule] = [alert for alert in grafana_alerts() if alert.name == ALERT]
    good = [line_image(line_text(number)) for number in range(LINES)]
    bad = [handwriting(number) for number in range(LINES)]
    mean, state = "ocr:prediction_score:mean5m", f'ALERTS{{alertname="{ALERT}"}}'

    async with open_monitoring(pipeline, tmp_path, faster=FASTER) as monitoring:

        async def mean_is_well() -> bool:
            values = await monitoring.values(mean)
            return bool(values) and values[0] > critical_threshold()

        async def told(status: str) -> bool:
            return bool(monitoring.alerts(ALERT, status))

        async with predicting(pipeline, good):
            await eventually(mean_is_well)
            assert not await grafana_fires(monitoring, rule)
            assert await monitoring.values(state) == []

        async with predicting(pipeline, bad):
            await eventually(lambda: told("firing"))
            assert await grafana_fires(monitoring, rule)
            assert (await monitoring.values(mean))[0] < critical_threshold()
            [alert, *_] = monitoring.alerts(ALERT, "firing")
            assert (alert["route"], alert["severity"]) == ("now", "critical")
            assert alert["runbook"].endswith("/alerts/ocrmeanscorecritical")
            assert not monitoring.alerts(ALERT, "resolved")

        async with predicting(pipeline, good):
            await eventually(lambda: told("resolved"))
            assert not await grafana_fires(monitoring, rule)
            assert await monitoring.values(state) == []
