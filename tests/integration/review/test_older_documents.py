"""Pages of documents that earlier versions wrote, before ``docreco migrate``."""

from pathlib import Path
from urllib.parse import urlencode

from bson import json_util

from tests.support.review import Person, Site

STORE = Path(__file__).parents[2] / "support" / "older_store.jsonl"
AWARE = json_util.JSONOptions(tz_aware=True)
PAGES = ("/", "/gallery", "/gallery?status=removed", "/quality", "/queue", "/queue?mode=random")


async def test_documents_of_earlier_versions_are_shown(review: Site, ada: Person) -> None:
    found = [json_util.loads(line, json_options=AWARE) for line in STORE.read_text().splitlines()]
    images = [each["document"] for each in found if each["collection"] == "images"]
    for image in images:
        await review.database.images.insert(image)

    for image in images:
        shown = await ada.see(f"/image?{urlencode({'id': image['_id']})}")
        assert image["_id"].partition("/")[2] in shown
    for path in PAGES:
        await ada.see(path)
