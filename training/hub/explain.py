"""What the Hub's client says, in a line about what happened and what to do.

Wraps every call of `training/hub/push.py`. The client's own errors span lines, name URLs and hide the cause of a
failed upload in another error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..load import short_reason

RESUME = "What has arrived stays there: run the same command again and only the rest is sent."


@contextmanager
def explained(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn errors of the client that happen inside into errors that a person understands.

    Raises:
        PermissionError: if nobody is logged in, the token is wrong, or it may not write to the repository.
        FileNotFoundError: if the repository or the revision is not there.
        ConnectionError: if the Hub cannot be reached, or fails.
        ValueError: if the Hub refuses what was sent.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error.__cause__, (HTTPError, OSError)):
            raise
        raise _explanation(error.__cause__, repo_id, endpoint) from error
    except (HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled) as error:
        raise _explanation(error, repo_id, endpoint) from error


def _explanation(error: BaseException, repo_id: str, endpoint: str) -> Exception:
    if isinstance(error, LocalTokenNotFoundError):
        return PermissionError(
            "You are not logged in to the Hub. Run `hf auth login`, or set HF_TOKEN, with a token that may write."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return ConnectionError("HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it and run again.")
    if not isinstance(error, HfHubHTTPError):
        reason = short_reason(error).rstrip(".") if isinstance(error, Exception) else type(error).__name__
        return ConnectionError(
            f"The Hub at {endpoint} cannot be reached ({reason}). Check the network, and HF_ENDPOINT if you set it. "
            f"{RESUME}"
        )
    status, said = error.response.status_code, " ".join((error.server_message or "").split())
    quoted = f" It says: {said}" if said else ""
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(f"{repo_id} has no such revision.{quoted}")
    if status == 401 and not (isinstance(error, RepositoryNotFoundError) and said):
        return PermissionError(
            "The Hub does not know your token; it may have expired. Log in again with `hf auth login`. HF_TOKEN, "
            f"where it is set, comes before that.{quoted}"
        )
    if status in (401, 403):
        return PermissionError(
            f"Your token may not write to {repo_id}. Use one with the role `write`, ask the owner of "
            f"{repo_id.split('/')[0]} to let you in, or choose a name of your own.{quoted}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return FileNotFoundError(f"{repo_id} is not on the Hub, or not for you to see.{quoted}")
    if status == 429:
        return ConnectionError(f"The Hub asks to wait: too many requests. {RESUME}")
    if status >= 500:
        return ConnectionError(f"The Hub at {endpoint} failed with status {status}. {RESUME}{quoted}")
    return ValueError(f"The Hub refused to take {repo_id} (status {status}).{quoted or ' ' + short_reason(error)}")
