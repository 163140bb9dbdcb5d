"""The review page in the language of a browser, and the switch that is remembered."""

import re
from urllib.parse import quote

import pytest

from tests.support.review import Person, Site, fields_of, known

FRENCH = {"Accept-Language": "fr-FR,fr;q=0.9,en;q=0.5"}
HEADINGS = {
    "/login": "Relecture DocReco",
    "/": "Vue d\u2019ensemble",
    "/queue": "File d\u2019attente",
    "/gallery": "Galerie",
    "/image?id={id}": "Image",
    "/pages": "Pages",
    "/batches": "Erreur",  # without a fetcher
}


@pytest.mark.parametrize(("path", "heading"), HEADINGS.items())
async def test_page_is_in_the_language_of_the_browser(
    review: Site, ada: Person, path: str, heading: str
) -> None:
    image = known("line", 0.5)
    await review.add(image)
    async with ada.client.get(path.format(id=quote(image["_id"])), headers=FRENCH) as response:
        html = await response.text()
    assert '<html lang="fr">' in html
    assert re.search(f"<h1>{heading}</h1>", html), html


async def test_switch_is_remembered_and_shows_the_same_page(review: Site, ada: Person) -> None:
    await review.add(known("line", 0.5))
    html = await ada.see("/queue?mode=random")
    assert '<html lang="en">' in html
    then = re.search('name="then" value="([^"]*)"', html)
    assert then
    assert then[1] == "/queue?mode=random"
    data = {"language": "fr", "then": then[1]}
    async with ada.client.post("/language", data=data) as response:
        assert str(response.url).endswith("/queue?mode=random")
        assert '<html lang="fr">' in await response.text()
    said = await ada.send("/queue/answer", fields_of(html) | {"action": "undo"})
    assert "Rien \u00e0 annuler." in said


@pytest.mark.parametrize(
    ("language", "then", "status", "address"),
    [("de", "/", 422, None), ("fr", "//evil.example", 303, "/"), ("fr", "http://evil", 303, "/")],
)
async def test_switch_leads_nowhere_else(
    ada: Person, language: str, then: str, status: int, address: str | None
) -> None:
    data = {"language": language, "then": then}
    async with ada.client.post("/language", data=data, allow_redirects=False) as response:
        assert (response.status, response.headers.get("Location")) == (status, address)
