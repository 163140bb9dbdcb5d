"""Access to the Hugging Face hub with one short attempt.

Its own client tries six times, for half a minute, before it reports an unavailable hub.
"""

from dataclasses import dataclass

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Resolved:
    """The commit of a revision, and whether the hub has confirmed it."""

    commit: str
    problem: OSError | None
    """Reason why not: only the hub's cache is available."""


def commit_of(name: str, revision: str) -> str:
    """Return the current commit of a revision of a model.

    Raises:
        ImportError: The extra ``trocr`` is not installed.
        ConnectionError: The hub does not answer.
        OSError: It refuses, see ``response``.
        ValueError: The name is invalid.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415  comes with the extra trocr
    from huggingface_hub.errors import HTTPError  # noqa: PLC0415  of its HTTP client

    try:
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_SECONDS)
    except OSError:
        raise
    except HTTPError as error:
        raise ConnectionError(f"the hub does not answer: {error}") from error
    commit: str = info.sha
    return commit


def resolve(name: str, revision: str) -> Resolved:
    """Return the commit of a revision, from the hub or its cache.

    Raises:
        ImportError: The extra ``trocr`` is not installed.
        OSError: The hub does not answer or refuses, and the revision is not cached.
        ValueError: The name is invalid.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415  comes with the extra trocr
    from huggingface_hub.errors import RevisionResolutionError  # noqa: PLC0415

    problem: OSError | None = None
    try:
        commit_of(name, revision)
    except OSError as error:
        problem = error
    try:  # caches the response
        found = HfApi().resolve_revision(
            name, revision=revision, local_files_only=problem is not None
        )
    except RevisionResolutionError as error:
        raise problem or OSError(str(error)) from error
    return Resolved(found.resolved, problem)
