"""Login, logout, and the choice of the language."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from services.common.domain.annotations import UnacceptableAnnotationError
from services.common.domain.texts import Text
from services.common.runtime.problems import ProblemError
from services.review.access import AppState, CurrentUser, StateDep, VerifiedForm, text_of
from services.review.languages import COOKIE as LANGUAGE_COOKIE
from services.review.languages import COOKIE_SECONDS, NAMES
from services.review.sessions import COOKIE

router = APIRouter()


@router.get("/login")
async def login_page(state: StateDep, then: str = "/") -> Response:
    """Show the login form."""
    return _login(state, then)


@router.post("/login")
async def login(request: Request, state: StateDep) -> Response:
    """Begin a session, and redirect to the requested page."""
    async with request.form() as form:
        then, name, password = (text_of(form, each) for each in ("then", "name", "password"))
    address = request.client.host if request.client else ""
    if not state.guesses.may_try(address):
        # Not even the right one: otherwise concurrent guesses would be unlimited
        problem = Text("Too many wrong passwords: try again in a minute.")
        return _login(state, then, name=name, problem=problem, status=429)
    if not state.sessions.accepts(password):
        await state.guesses.count(address)
        return _login(state, then, name=name, problem=Text("Wrong password."), status=403)
    try:
        session = state.sessions.start(name)
    except UnacceptableAnnotationError:
        problem = Text("Enter a name: it is stored with your annotations.")
        return _login(state, then, problem=problem, status=422)
    response = RedirectResponse(_inside(then), status_code=303)
    response.set_cookie(
        COOKIE,
        state.sessions.cookie(session),
        max_age=int(state.sessions.seconds),
        httponly=True,
        samesite="strict",
        secure=_is_encrypted(request),
    )
    return response


@router.post("/logout")
async def logout(state: StateDep, user: CurrentUser, _: VerifiedForm) -> Response:
    """End the session, also for copies of its cookie."""
    await state.ended.add(user)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE)
    return response


@router.post("/language")
async def choose_language(request: Request) -> Response:
    """Remember a language, and show the page again."""
    async with request.form() as form:
        code, then = text_of(form, "language"), text_of(form, "then")
    if code not in NAMES:
        raise ProblemError(422, "invalid_request", "unknown language")
    response = RedirectResponse(_inside(then), status_code=303)
    response.set_cookie(
        LANGUAGE_COOKIE,
        code,
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="lax",
        secure=_is_encrypted(request),
    )
    return response


def _login(
    state: AppState, then: str, *, name: str = "", problem: Text | None = None, status: int = 200
) -> Response:
    return state.templates.render(
        "login",
        None,
        status=status,
        then=_inside(then),
        name=name,
        problem=problem,
        wants_password=state.sessions.wants_password,
    )


def _is_encrypted(request: Request) -> bool:
    """Whether the browser uses TLS, also if a proxy terminates it."""
    # A forged header only restricts the sender's own cookie
    forwarded = request.headers.get("x-forwarded-proto", "")
    return "https" in {request.url.scheme, forwarded.rpartition(",")[2].strip().lower()}


def _inside(path: str) -> str:
    """Return a path of this site, against open redirects."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"
