"""Select documents and convert them to records of an export."""

from collections import Counter
from collections.abc import Iterable, Sequence

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import by_sha256, paginate
from services.common.domain.double_reading import DoubleState
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import PRESENT, ImageFilter
from services.common.domain.labels import Exclusion
from services.common.domain.page import PageOfLine
from services.common.domain.records import Prediction, Quality
from services.datasets.copies import decide, find_copies, provenance_of
from services.datasets.grouping import Splitting
from services.datasets.manifest import ExportQuery, ManifestRecord
from services.datasets.plan import ExportPlan


def filter_of(query: ExportQuery) -> ImageFilter:
    """Return which documents a query is about.

    Of annotated ones, also those whose sources disagree: they are not in it, and counted.
    """
    return ImageFilter(
        query,
        bucket=query.bucket,
        status=PRESENT,
        double=tuple(DoubleState) if query.only_agreed else (),
        is_labelled=query.only_annotated or query.only_corrected,
    )


async def select(images: ImageRepository, query: ExportQuery, plan: ExportPlan) -> Counter[str]:
    """Add all matching images to a plan; return the reasons of excluded documents.

    Equal bytes are decided once, by all their copies, including those that do not match.
    """
    excluded: Counter[str] = Counter()
    splitting = Splitting.parse(
        query.split, query.group_by, use_given=query.use_split, limits=query
    )
    async for page in paginate(images, filter_of(query), by_sha256(), fields={"sha256": 1}):
        hashes = plan.unseen(str(document.sha256) for document in page.documents)
        excluded["duplicate"] += len(page.documents) - len(hashes)
        records = []
        found = (await find_copies(images, query.bucket, hashes)).values()
        replaced = await _replaced_lines(images, found) if query.format.is_of_pages else ()
        for copies in found:
            record = to_record(copies, query, splitting)
            if isinstance(record, ManifestRecord) and _line_of(record.page) in replaced:
                record = Exclusion.REPLACED
            if isinstance(record, Exclusion):
                excluded[record.value] += 1
            else:
                records.append(record)
        plan.add(records)
    return +excluded


async def _replaced_lines(
    images: ImageRepository, found: Iterable[Sequence[ImageDocument]]
) -> set[tuple[str, str]]:
    """Return the lines of the pages of images in whose place a person drew one that has a text."""
    pages = frozenset(each.page.id for copies in found for each in copies if each.page)
    where = ImageFilter(pages=pages, status=("predicted",), annotated=Quality.OK)
    fields = {"page.id": 1, "page.replaces": 1}
    return {
        (each.page.id, line)
        async for each in images.find(where, fields=fields)
        if each.page
        for line in each.page.replaces or ()
    }


def _line_of(page: PageOfLine | None) -> tuple[str, str] | None:
    return (page.id, page.line) if page else None


def to_record(
    copies: Sequence[ImageDocument], query: ExportQuery, splitting: Splitting
) -> ManifestRecord | Exclusion:
    """Return the record of an image, given all its documents, or the reason of its exclusion."""
    decided = decide(
        copies,
        only_annotated=query.only_annotated,
        min_agreement=query.min_agreement,
        only_corrected=query.only_corrected,
        only_agreed=query.only_agreed,
    )
    if isinstance(decided, Exclusion):
        return decided
    pages = (each.page for each in copies if each.page)
    page = next((each for each in pages if each.width and each.height and each.place), None)
    if query.format.is_of_pages and page is None:
        return Exclusion.NOT_OF_A_PAGE
    document, label = decided
    prediction, annotation = document.prediction or Prediction(), document.annotation
    provenance = provenance_of(copies, query)
    return ManifestRecord.model_validate(
        {
            "sha256": document.sha256,
            "key": document.key,
            "etag": document.etag,
            "split": splitting.place(copies),
            "split_groups": splitting.groups(copies),
            "label": label.text,
            "origin": label.origin,
            "agreement": label.agreement,
            "how": annotation and annotation.known_how,
            "score": document.prediction and prediction.score,
            "engine": prediction.engine,
            "model_version": prediction.model_version,
            "by": annotation and annotation.by,
            "hosts": provenance.hosts,
            "page": page,
            **provenance.naming(query),
        }
    )
