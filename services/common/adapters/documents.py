"""Parse documents of MongoDB into types, and generate schemas from these.

The provisioner sets the schemas as validators; ``docs/schemas`` has copies for readers.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from services.common.adapters.collections import BATCHES, FETCHES, IMAGES, PAGES
from services.common.adapters.mongo import Document
from services.common.domain.batch import Batch
from services.common.domain.batch_item import BatchItem
from services.common.domain.errors import PermanentError
from services.common.domain.image import ImageDocument
from services.common.domain.page_document import PageDocument
from services.common.domain.records import Record

T = TypeVar("T", bound=Record)

TYPES: Mapping[str, type[Record]] = {
    IMAGES: ImageDocument,
    PAGES: PageDocument,
    BATCHES: Batch,
    FETCHES: BatchItem,
}
"""Types by collection."""

_KEPT = ("description", "required", "enum", "minimum", "maximum")
"""Keywords of JSON Schema that MongoDB supports."""
_TYPES = {"integer": ["int", "long"], "number": ["double", "int", "long"], "boolean": "bool"}


class InvalidDocumentError(PermanentError):
    """A document does not match its type."""

    code = "invalid_document"


def typed(kind: type[T], found: Document) -> T:
    """Parse a document of MongoDB.

    Raises:
        InvalidDocumentError: It does not match the type.
    """
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InvalidDocumentError(f"{found['_id']}: {where}: {problem['msg']}") from error


def schema_of(collection: str) -> Document:
    """Return the schema of a collection's documents for ``$jsonSchema``."""
    schema = TYPES[collection].model_json_schema(by_alias=True)
    return _to_bson(schema, schema.get("$defs", {}))


def _to_bson(node: Document, definitions: Document) -> Document:
    """Translate a schema: MongoDB has its own types, and neither references nor formats."""
    if (reference := node.get("$ref")) is not None:
        node = {**definitions[reference.rpartition("/")[2]], **node}
    made: Document = {}
    for each in node.get("anyOf", []):  # a type, or null
        part = _to_bson(each, definitions)
        made |= {**part, "bsonType": [*_types(made), *_types(part)]}
    if "enum" in made and "null" in _types(made):
        made["enum"] = [*made["enum"], None]
    made |= {name: node[name] for name in _KEPT if name in node}
    if (kind := node.get("type")) is not None:
        made["bsonType"] = "date" if node.get("format") == "date-time" else _TYPES.get(kind, kind)
    if "properties" in node:
        fields: dict[str, Any] = node["properties"]
        made["properties"] = {name: _to_bson(each, definitions) for name, each in fields.items()}
    if "items" in node:
        made["items"] = _to_bson(node["items"], definitions)
    return made


def _types(node: Document) -> list[str]:
    types = node.get("bsonType", [])
    return [types] if isinstance(types, str) else types
