"""Parameters of requests: those of ``POST /batches``, and the refusal of unknown ones."""

from collections.abc import Collection, Iterable
from typing import Any, Literal, Self

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from services.common.domain.image_formats import PDF
from services.common.domain.tables.list_format import ReadingOptions
from services.common.runtime.problems import ProblemError
from services.fetcher.sources.lists.documents import MAX_NAME_LENGTH, to_name

SHOWN_UNKNOWN = 20


class ListParameters(BaseModel):
    """Parameters of a submission: in the query, a form or a JSON document."""

    model_config = ConfigDict(frozen=True)

    name: str | None = Field(
        None,
        description=f"Displayed name; {MAX_NAME_LENGTH} characters at most; default: of the file.",
    )
    encoding: str | None = Field(
        None,
        max_length=40,
        description="Encoding, such as windows-1250; default: detected.",
    )
    url_column: str | None = Field(
        None, min_length=1, max_length=200, description="Name of the column of URLs."
    )
    text_column: str | None = Field(
        None, min_length=1, max_length=200, description="Name of the column of annotations."
    )
    group_column: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Name of the column of the document, page or writer of an image.",
    )
    licence: str | None = Field(
        None,
        min_length=1,
        max_length=300,
        description="Default licence of its images, such as `CC-BY-4.0`.",
    )
    by: str | None = Field(
        None, min_length=1, max_length=200, description="Displayed name of the submitter."
    )
    strict: bool = Field(
        default=False,
        description="Whether to refuse the list where a row is rejected, or something of it "
        "was not taken as it stands (422 `strict_list`).",
    )
    dry_run: bool = Field(
        default=False, description="Dry run: only show how it would be read (200, not 202)."
    )

    collection: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Collection of its images; default: the name of the archive or list.",
    )
    kind: Literal["folder", "upload"] | None = Field(
        None,
        description="Origin of an archive: a `folder`, or files (`upload`).",
    )

    pages: bool = Field(
        default=False,
        description="Whether its images are pages, to be cut into lines; needed for PDFs. "
        "A column `is_page` says it of single images of a list.",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        return to_name(name)

    @field_validator("collection", "licence", "by")
    @classmethod
    def _check_text(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("is blank")
        return text

    @property
    def list_options(self) -> ReadingOptions:
        """Options to read the list."""
        columns = (self.url_column, self.text_column, self.group_column)
        return ReadingOptions(self.encoding, *columns, pages=self.pages)

    @property
    def given(self) -> tuple[str, ...]:
        """Identity of this way to read the bytes; empty by default."""
        ours = {"collection": self.collection, "kind": self.kind, "licence": self.licence}
        said = tuple(f"{name}={value}" for name, value in ours.items() if value)
        return (*self.list_options.given, *said)

    def merge(self, given: Iterable[tuple[str, object]], *, where: str) -> Self:
        """Merge these parameters with those of the body.

        Args:
            given: Raw values of known names; None counts as missing.
            where: First part of the location in errors: ``form`` or ``json``.

        Raises:
            RequestValidationError: A value is invalid.
            ProblemError: 422 ``conflicting_parameters``.
        """
        merged = {name: getattr(self, name) for name in self.model_fields_set}
        for name, sent in given:
            if sent is None:
                continue
            value = getattr(self._parse(name, sent, where), name)
            if merged.setdefault(name, value) != value:
                raise _conflict(name)
        return type(self)(**merged)

    @classmethod
    def _parse(cls, name: str, sent: object, where: str) -> Self:
        try:
            return cls.model_validate({name: sent})
        except ValidationError as error:
            errors = [{**each, "loc": (where, *each["loc"])} for each in error.errors()]
            raise RequestValidationError(errors) from error


_ITEM = {
    "type": "object",
    "required": ["url"],
    "properties": {"url": {"type": "string"}, "annotation": {"type": ["string", "null"]}},
    "description": "Further members are kept: group, split, licence, and any metadata.",
}
_DOCUMENT = {
    "items": {"type": "array", "items": _ITEM},
    "list_url": {
        "type": "string",
        "description": "Of a list, or of a .zip or .tar(.gz) of images.",
    },
}
_FILE = {
    "type": "string",
    "format": "binary",
    "description": "A list, a .zip or .tar(.gz) of images, Parquet, an image, or a PDF of pages.",
}
_TEXTS = {
    "text/plain": "One URL per line.",
    "text/csv": "Columns url and annotation.",
    "application/jsonl": "One object with a url per line.",
}
_BINARY = (
    *("application/vnd.apache.parquet", "application/zip", "application/x-tar", "image/*"),
    PDF.content_type,
)


def list_body() -> dict[str, Any]:
    """Return the body of ``POST /batches`` for OpenAPI; FastAPI does not parse it."""
    parameters = ListParameters.model_json_schema()["properties"]
    document = {"description": "Either items or list_url.", "properties": _DOCUMENT | parameters}
    form = {"required": ["file"], "properties": {"file": _FILE, **parameters}}
    strict = {"type": "object", "additionalProperties": False}
    schemas = {
        "application/json": {**strict, **document},
        **{kind: {"type": "string", "description": each} for kind, each in _TEXTS.items()},
        **{kind: {"type": "string", "format": "binary"} for kind in _BINARY},
        "multipart/form-data": {**strict, **form},
    }
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    return {"requestBody": {"required": True, "content": content}}


async def check_query(request: Request) -> None:
    """Refuse undocumented query parameters.

    Raises:
        ProblemError: 422 ``unknown_parameter`` or ``conflicting_parameters``.
    """
    query = request.query_params
    if not query:
        return
    path = request.app.openapi()["paths"][request.scope["route"].path]
    documented = path[request.method.lower()].get("parameters", [])
    known = [each["name"] for each in documented if each["in"] == "query"]
    refuse_unknown(query.keys(), known, "query")
    for name in query:
        if len(set(query.getlist(name))) > 1:
            raise _conflict(name)


def refuse_unknown(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse unknown parameters, which may be misspelt.

    Raises:
        ProblemError: 422 ``unknown_parameter``.
    """
    unknown = sorted(set(names) - set(known))[:SHOWN_UNKNOWN]
    if unknown:
        listed = sorted(known)
        detail = f"the {where} has a parameter {unknown[0][:100]!r}, which is not known; "
        detail += f"known are: {', '.join(listed)}" if listed else "none"
        raise ProblemError(422, "unknown_parameter", detail, unknown=unknown, known=listed)


def _conflict(name: str) -> ProblemError:
    detail = f"{name!r} has conflicting values"
    return ProblemError(422, "conflicting_parameters", detail)
