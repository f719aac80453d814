"""Whether a recommender can be had from the Hub, asked once before anything is loaded.

Called by `training/load.py`. The libraries underneath ask for file after file, wait a minute for a Hub that is not
there, and say the reason in their own words; one question first makes it a line, at once.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..load import NEEDED, short_reason

SECONDS = 10
"""How long the Hub may take to answer."""


def files_of(repo_id: str, revision: str | None = None) -> dict[str, Any]:
    """Where to look for the files of a model: keyword arguments of `from_pretrained`.

    A Hub that cannot be reached does not matter where the files were downloaded before.

    Args:
        repo_id: `name/name`.
        revision: branch, tag or commit; by default `main`.

    Raises:
        FileNotFoundError: if the Hub has no such model or revision, or it is no recommender.
        PermissionError: if the token is wrong, or the model's owner must be asked first.
        ConnectionError: if the Hub cannot be reached and the files are not here already.
    """
    where = {} if revision is None else {"revision": revision}
    api = HfApi()
    try:
        there = api.model_info(repo_id, revision=revision, timeout=SECONDS)
    except HFValidationError as error:
        raise FileNotFoundError(f"{repo_id} is no folder here, and no name that the Hub could have.") from error
    except (HTTPError, OfflineModeIsEnabled) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status is not None and status < 500 and status != 429:
            raise _refusal(error, api, repo_id, revision) from error
        if isinstance(try_to_load_from_cache(repo_id, "config.json", revision=revision), str):
            return {**where, "local_files_only": True}
        named = repo_id if revision is None else f"{repo_id}, revision {revision}"
        if isinstance(error, OfflineModeIsEnabled):
            reason = "HF_HUB_OFFLINE is set. Unset it to ask the Hub"
        elif status is not None:
            reason = f"the Hub at {api.endpoint} failed with status {status}. Try again later"
        else:
            reason = f"the Hub at {api.endpoint} cannot be reached. Check the network, and HF_ENDPOINT if you set it"
        raise ConnectionError(
            f"{named} is no folder here and was not downloaded before, and {reason}; or check the spelling of the "
            "folder."
        ) from error
    missing = sorted(set(NEEDED) - {file.rfilename for file in there.siblings or ()})
    if missing:
        raise FileNotFoundError(
            f"{repo_id} on the Hub is no whole recommender: {' and '.join(missing)} missing. Expected a model that "
            "`llm4rec push` uploaded; to build on another language model, train with --set model.backbone="
            f"{repo_id} and the recipe pretrained-llm-lora."
        )
    return where


def _refusal(error: HfHubHTTPError, api: HfApi, repo_id: str, revision: str | None) -> Exception:
    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(
            f"{repo_id} has no revision {revision!r}. Its branches, tags and commits are listed at "
            f"{api.endpoint}/{repo_id}/commits/main."
        )
    if isinstance(error, GatedRepoError):
        return PermissionError(
            f"The owner of {repo_id} asks readers for consent first: open {api.endpoint}/{repo_id}, agree there, and "
            "log in here with `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError):
        for kind, named in (("dataset", "a data set"), ("space", "a Space")):
            with suppress(HTTPError):
                api.repo_info(repo_id, repo_type=kind, timeout=SECONDS)
                return FileNotFoundError(f"{repo_id} is {named} on the Hub, not a model.")
        return FileNotFoundError(
            f"{repo_id} is no folder here, and the Hub has no model of that name, or not for you to see. Check the "
            "spelling; for a private model log in with `hf auth login`, or set HF_TOKEN."
        )
    if status in (401, 403):
        return PermissionError(
            "The Hub does not know your token; it may have expired. Log in again with `hf auth login`, or log out. "
            "HF_TOKEN, where it is set, comes before that."
        )
    return FileNotFoundError(f"{repo_id} could not be had from the Hub (status {status}): {short_reason(error)}")
