"""Dependencies of routes: application state, current user, CSRF-checked form."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData

from services.common.adapters.fetcher_api import FetcherClient
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    Queues,
)
from services.common.runtime.problems import ProblemError
from services.common.runtime.settings import AmqpSettings
from services.review.leases import EndedSessions
from services.review.overview import Overview
from services.review.quality import QualityCounter
from services.review.queue import Queue
from services.review.sessions import (
    COOKIE,
    PasswordGuesses,
    Session,
    Sessions,
)
from services.review.settings import ReviewSettings
from services.review.templating import Templates


@dataclass(frozen=True)
class AppState:
    """Application state."""

    settings: ReviewSettings
    sessions: Sessions
    templates: Templates
    database: Database
    images: ImageRepository
    store: ObjectStore
    page_documents: PageRepository
    page_store: ObjectStore
    queue: Queue
    quality: QualityCounter
    overview: Overview
    fetcher: FetcherClient
    amqp: AmqpSettings
    conversions: asyncio.Semaphore
    """A large image takes some 100 MB while it is converted."""
    guesses: PasswordGuesses
    ended: EndedSessions
    ocr_queues: Queues = OCR_QUEUES
    fetch_queues: Queues = FETCH_QUEUES
    page_queues: Queues = PAGE_QUEUES


class LoginRequiredError(Exception):
    """The user is not logged in."""


def _state(request: Request) -> AppState:
    state: AppState = request.app.state.app_state
    return replace(state, templates=state.templates.for_request(request))


StateDep = Annotated[AppState, Depends(_state)]


async def _session(request: Request, state: StateDep) -> Session:
    session = state.sessions.read(request.cookies.get(COOKIE))
    if session is None or await state.ended.has(session):
        raise LoginRequiredError
    return session


CurrentUser = Annotated[Session, Depends(_session)]


async def _verified_form(
    request: Request, state: StateDep, user: CurrentUser
) -> AsyncIterator[FormData]:
    async with request.form() as form:
        if not state.sessions.is_token(user, text_of(form, "token")):
            detail = "the form belongs to another login: reload the page"
            raise ProblemError(403, "wrong_token", detail)
        yield form


VerifiedForm = Annotated[FormData, Depends(_verified_form)]


def shown_in(form: FormData) -> list[str] | None:
    """Return the predictions that a page showed; None where its form does not say."""
    shown = [each for each in form.getlist("shown") if isinstance(each, str)]
    return shown if "shown" in form else None


def text_of(form: FormData, name: str) -> str:
    """Return a field's text; empty if it is missing or a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""
