"""Metrics of the review page: actions, without persons or images."""

from prometheus_client import REGISTRY

from services.review.leases import Leases
from tests.support.review import Person, Site, known

STRANGE = "strange-path"


class Growth:
    """Growth of counters since its creation, as other tests of the process count, too."""

    def __init__(self) -> None:
        self._before = self._values()

    def of(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return self._values().get(key, 0.0) - self._before.get(key, 0.0)

    def _values(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for metric in REGISTRY.collect()
            for sample in metric.samples
        }


async def test_what_people_say_of_images_is_counted_by_kind(review: Site, ada: Person) -> None:
    for number in range(5):
        await review.add(known(f"line {number}", number / 10))
    growth = Growth()

    task = await ada.see("/queue")
    for action in ("save", "unreadable", "not_a_line", "skip", "undo"):
        task = await ada.do(task, action)
    image = {"id": known("line 4", 0.4)["_id"], "etag": "e1", "quality": "ok", "text": "mine"}
    for _ in range(2):
        await ada.send("/image/annotate", image)

    written = {
        quality: growth.of("review_annotations_total", quality=quality)
        for quality in ("ok", "unreadable", "not_a_line")
    }
    assert written == {"ok": 2, "unreadable": 1, "not_a_line": 1}
    assert growth.of("review_annotations_undone_total") == 1
    assert growth.of("review_leases_total", outcome="skipped") == 1
    assert growth.of("review_leases_total", outcome="taken") >= 5


async def test_image_that_another_has_is_counted_as_refused(review: Site) -> None:
    leases = Leases(review.database.review_leases, seconds=60)
    growth = Growth()

    assert await leases.take("raw/one.png", "ada's")
    assert not await leases.take("raw/one.png", "bob's")

    assert growth.of("review_leases_total", outcome="taken") == 1
    assert growth.of("review_leases_total", outcome="refused") == 1


async def test_requests_are_counted_by_route_and_health_is_not(review: Site, ada: Person) -> None:
    await review.add(known("one", 0.1))
    growth = Growth()

    await ada.see(f"/image?id={known('one', 0.1)['_id']}")
    await ada.see("/image?id=raw/none.png", status=404)
    await ada.see("/batches/b1", status=503)
    await ada.see(f"/{STRANGE}", status=404)
    await ada.see(f"/static/{STRANGE}", status=404)
    for path in ("/livez", "/readyz", "/metrics"):
        async with ada.client.get(path) as response:
            await response.read()
    async with ada.client.get("/metrics") as response:
        metrics = await response.text()

    for route, status in (
        ("/image", "200"),
        ("/image", "404"),
        ("/batches/{batch_id}", "503"),
        ("none", "404"),
        ("/static", "404"),
    ):
        assert growth.of("review_requests_total", route=route, status=status) == 1, route
    assert growth.of("review_request_duration_seconds_count", route="/image") == 2
    assert STRANGE not in metrics
    for path in ("/livez", "/readyz", "/metrics"):
        assert f'route="{path}"' not in metrics


async def test_refused_requests_are_counted_too(ada: Person) -> None:
    growth = Growth()

    async with ada.client.get("/queue", headers={"Host": "evil.example"}) as response:
        assert response.status == 421

    assert growth.of("review_requests_total", route="none", status="421") == 1


async def test_no_name_text_key_or_address_is_told(review: Site) -> None:
    await review.add(known("a secret line", 0.1, key="secret-key.png"))
    async with review.person("secret person") as person:
        await person.see("/gallery?host=secret-host.example")
        task = await person.see("/queue")
        await person.do(task, "save", "a secret text")

        async with person.client.get("/metrics") as response:
            metrics = await response.text()

    assert "review_annotations_total" in metrics
    assert "secret" not in metrics
    assert person.token not in metrics
