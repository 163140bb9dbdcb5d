"""``docreco forget``: remove an image on request, and prove it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from services.cli.broker import told_of_servers
from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output, cell, run, table
from services.common import parking
from services.common.download.urls import to_url
from services.common.errors import PermanentError
from services.common.index import Database, Document, open_index
from services.common.messaging import open_publisher
from services.common.object_store import ObjectStore, open_object_store
from services.common.settings import AmqpSettings, MongoSettings, S3Settings
from services.common.settlement import OCR_QUEUES, Queues
from services.common.synthetic import ORIGIN_HEADER, removed_notification

ORIGIN = "forget"
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Target:
    """One object that is to go, and its document."""

    key: str
    is_stored: bool
    document: Document | None

    @property
    def sources(self) -> list[str]:
        """Every URL that led to these bytes."""
        return [str(each["url"]) for each in (self.document or {}).get("sources") or []]

    @property
    def says_removed(self) -> bool:
        """Whether the document is a proof of removal already."""
        return self.document is not None and self.document.get("status") == "removed"


def forget(
    what: Annotated[
        str, typer.Argument(metavar="URL|KEY", help="Where images came from, or one's key.")
    ],
    *,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="For the proof.")] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Delete an image, or all that came from a URL, and print the proof that nothing read stays."""
    output = Output(as_json=as_json)

    async def work() -> ExitStatus:
        with told_of_servers():
            async with (
                open_object_store(S3Settings()) as store,
                open_index(MongoSettings()) as index,
            ):
                targets = await find_targets(store, index, what)
                if not targets:
                    raise CommandError(f"nothing is known of {what}", status=ExitStatus.REFUSED)
                if not yes:
                    output.asides.print(_targets_table(targets))
                    if not typer.confirm(f"Delete {len(targets)} for ever?", err=True):
                        return ExitStatus.REFUSED
                dropped = await remove(targets, store=store, amqp=AmqpSettings())
                proofs = await prove(targets, store, index, wait_seconds=wait)
        is_done = all(proof["removed_at"] is not None for proof in proofs)
        answer = {"is_done": is_done, "parked_messages_dropped": dropped, "proofs": proofs}
        output.answer(answer, *_for_people(proofs, is_done=is_done))
        return ExitStatus.OK if is_done else ExitStatus.INCOMPLETE

    run(output, work)


async def find_targets(store: ObjectStore, index: Database, what: str) -> list[Target]:
    """Return what a URL led to, or what has a key (with or without the bucket before it).

    Raises:
        UnavailableError: A server is missing.
    """
    if what.startswith(("http://", "https://")):
        keys = await _keys_from(index, what)
    else:
        keys = {what, what.removeprefix(f"{store.bucket}/")}
    found = []
    for key in sorted(keys):
        document = await index.images.find_one({"_id": f"{store.bucket}/{key}"})
        is_stored = await store.head(key) is not None
        if is_stored or document is not None:
            found.append(Target(key, is_stored, document))
    return found


async def _keys_from(index: Database, url: str) -> set[str]:
    """Return the keys of a URL's images, those without a document yet included."""
    spellings = {url}
    with suppress(PermanentError):  # somebody's upload may name what the fetcher does not take
        spellings.add(str(to_url(url)))
    given = {"$in": sorted(spellings)}
    keys = {each["key"] async for each in index.images.find({"sources.url": given})}
    fetched = index.fetches.find({"url": given, "key": {"$type": "string"}})
    return keys | {each["key"] async for each in fetched}


async def remove(
    targets: list[Target],
    *,
    store: ObjectStore,
    amqp: AmqpSettings,
    queues: Queues = OCR_QUEUES,
) -> int:
    """Delete objects, whose own events erase the rest; queue a removal for what was gone before.

    Parked messages about them hold their source and annotation, and go too; their number is
    returned.

    Raises:
        UnavailableError: A server is missing; the command may be given again.
    """
    about = {f"{store.bucket}/{each.key}"[: parking.LONGEST_SUBJECT] for each in targets}
    dropped = await parking.drop(amqp, queues, lambda message: message.subject in about)
    for target in targets:
        if target.is_stored:
            await store.erase(target.key)
    async with open_publisher(amqp) as publisher:
        for target in targets:
            if target.document is None or target.is_stored or target.says_removed:
                continue
            body = removed_notification(
                store.bucket,
                target.key,
                sequencer=target.document.get("sequencer") or "0",
                occurred_at=datetime.now(tz=UTC),
            )
            await publisher.publish(body, queue=queues.work, headers={ORIGIN_HEADER: ORIGIN})
    return len(dropped)


async def prove(
    targets: list[Target], store: ObjectStore, index: Database, *, wait_seconds: float
) -> list[dict[str, Any]]:
    """Wait for every document to be erased; return what is left of each as its proof.

    Without an erased document within ``wait_seconds`` a proof's ``removed_at`` is None.

    Raises:
        UnavailableError: A server is missing.
    """
    deadline = asyncio.get_running_loop().time() + wait_seconds
    proofs = []
    for target in targets:
        where: Document = {"_id": f"{store.bucket}/{target.key}", "status": "removed"}
        if target.says_removed and target.is_stored:
            # It came back without its document saying so: only a later removal is the proof
            where["sequencer"] = {"$ne": (target.document or {}).get("sequencer")}
        document = await index.images.find_one(where)
        while document is None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            document = await index.images.find_one(where)
        is_gone = await store.head(target.key) is None
        proofs.append(_proof(where["_id"], target, document if is_gone else None))
    return proofs


def _proof(document_id: Any, target: Target, document: Document | None) -> dict[str, Any]:
    left = document or {}
    return {
        "document": document_id,
        "sources": target.sources,
        "sha256": left.get("sha256"),
        "stored_at": left.get("stored_at"),
        "removed_at": left.get("removed_at"),
        "erased_at": left.get("indexed_at"),
        "prediction": left.get("prediction"),
        "annotation": left.get("annotation"),
    }


def _targets_table(targets: list[Target]) -> Any:
    rows = [
        [
            cell(target.key),
            "yes" if target.is_stored else "no",
            cell((target.document or {}).get("status", "no document")),
            cell("\n".join(target.sources) or "(uploaded)"),
        ]
        for target in targets
    ]
    return table("To delete", ("key", "object", "document", "came from"), rows)


def _for_people(proofs: list[dict[str, Any]], *, is_done: bool) -> list[Any]:
    rows = [
        [
            cell(proof["document"]),
            cell("\n".join(proof["sources"]) or "(uploaded)"),
            cell(proof["removed_at"] or "not yet", "" if proof["removed_at"] else "red"),
            cell(proof["erased_at"] or ""),
        ]
        for proof in proofs
    ]
    columns = ("document", "came from", "object removed at", "document erased at")
    words = (
        "Objects, predictions and annotations are gone."
        if is_done
        else "Some documents are not erased yet: is the consumer running? Give the command again."
    )
    return [table("Proof of removal", columns, rows), words]
