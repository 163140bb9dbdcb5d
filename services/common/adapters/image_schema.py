"""The schemas of ``images`` and ``pages``, in MongoDB's dialect of JSON Schema.

They are generated from the types. The provisioner sets them as the collections' validators;
``docs/schemas/`` has copies for readers.
"""

from typing import Any

from services.common.adapters.mongo import Document
from services.common.domain.image import ImageDocument
from services.common.domain.page import PageDocument
from services.common.domain.records import StoredRecord

_KEPT = ("description", "required", "enum", "minimum", "maximum")
"""Keywords of JSON Schema that MongoDB supports."""
_TYPES = {"integer": ["int", "long"], "number": ["double", "int", "long"], "boolean": "bool"}


def image_schema() -> Document:
    """Return the schema of images for ``$jsonSchema``."""
    return _schema_of(ImageDocument)


def page_schema() -> Document:
    """Return the schema of pages for ``$jsonSchema``."""
    return _schema_of(PageDocument)


def _schema_of(kind: type[StoredRecord]) -> Document:
    schema = kind.model_json_schema(by_alias=True)
    return _to_bson(schema, schema["$defs"])


def _to_bson(node: Document, definitions: Document) -> Document:
    """Translate a schema: MongoDB has its own types, and neither references nor formats."""
    if (reference := node.get("$ref")) is not None:
        node = {**definitions[reference.rpartition("/")[2]], **node}
    made: Document = {}
    for each in node.get("anyOf", []):  # a type, or null
        part = _to_bson(each, definitions)
        made |= {**part, "bsonType": [*_types(made), *_types(part)]}
    # MongoDB holds a value of any type against it
    if "enum" in made and "null" in made["bsonType"]:
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
