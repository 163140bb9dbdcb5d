"""The Hugging Face hub, asked once and briefly.

Its own client asks a hub that does not answer six times, for half a minute, before it says so.
"""

from dataclasses import dataclass

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Resolved:
    """The commit of a revision, and whether the hub has said so now."""

    commit: str
    problem: OSError | None
    """Why it did not: what of the commit is in the hub's cache is all that can be had."""


def commit_of(name: str, revision: str) -> str:
    """Return the commit that a revision of a model means now.

    Args:
        name: Of the model, on the hub.
        revision: Commit, tag or branch.

    Raises:
        ImportError: The extra ``trocr`` is not installed.
        ConnectionError: The hub does not answer.
        OSError: It refuses: ``response`` says how.
        ValueError: It is no model's name.
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
    """Return the commit that a revision means now, or else meant when the hub last answered.

    Raises:
        ImportError: The extra ``trocr`` is not installed.
        OSError: The hub does not answer or refuses, and never said what the revision means.
        ValueError: It is no model's name.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415  comes with the extra trocr
    from huggingface_hub.errors import RevisionResolutionError  # noqa: PLC0415

    problem: OSError | None = None
    try:
        commit_of(name, revision)
    except OSError as error:
        problem = error
    try:  # notes what the hub says for later
        found = HfApi().resolve_revision(
            name, revision=revision, local_files_only=problem is not None
        )
    except RevisionResolutionError as error:
        raise problem or OSError(str(error)) from error
    return Resolved(found.resolved, problem)
