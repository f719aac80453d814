"""A model folder becomes a repository on the Hub, and the demo a Space that points at it.

Called by `llm4rec push`. Uploads go through `huggingface_hub`: first the large files, which the Hub keeps as they
arrive, then one commit, so a reader never meets half a model, and an upload that was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from huggingface_hub.utils import logging as hub_logging

from ..load import check_model_folder
from .explain import explained
from .upload_plan import UploadPlan, plan_upload

SPACE_FOLDER = Path(__file__).parents[2] / "spaces_demo"
MODEL_VARIABLE = "LLM4REC_MODEL"
REVISION_VARIABLE = "LLM4REC_REVISION"
"""Variables of the Space that tell its app which model to load."""

OF_A_SPACE = ("README.md", "app.py", "packages.txt", "requirements.txt")
"""Files that are uploaded of a demo that is a package, as ours."""

OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "memory/*")
"""Files that change how a model loads: what an earlier upload left of them would be read beside the new ones."""

# The Hub's own rule, which its client checks in part.
REPO_NAME = re.compile(r"(?=.{3,96}$)[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass
class PushReport:
    """What was uploaded, or would be.

    Attributes:
        repo, revision, url: where.
        commit: its hash; `None` after a dry run.
        changed: whether the commit is new; false if all was there already.
        plan: files, and what was left out.
        removed: files of an earlier model that were deleted there.
        notes: what the owner should know before others read it.
    """

    repo: str
    revision: str
    url: str
    plan: UploadPlan
    commit: str | None = None
    changed: bool = False
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def push_model(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
    api: HfApi | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> PushReport:
    """Upload a model folder.

    Args:
        folder: of `llm4rec train`, or of `save_pretrained` of model and processor.
        repo_id: `org/name`; the repository is made if it is not there.
        private: make a new repository private. One that is public already is refused.
        revision: branch to upload to, made from `main` if it is not there; by default `main`.
        dry_run: look and report; nothing is sent or asked.
        api: the Hub's client; by default as the environment says (`HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`).
        say: told what happens, a line at a time.
        progress: show progress bars.

    Raises:
        FileNotFoundError: if the folder holds no whole model.
        ValueError: if the name is malformed, the folder holds what must not be published or what nobody else could
            load, or the Hub has another repository of that name.
        PermissionError: if nobody is logged in, or the token is wrong or may not write.
        ConnectionError: if the Hub cannot be reached; the same call sends the rest.
    """
    api = api if api is not None else HfApi()
    check_repo_id(repo_id)
    folder = check_model_folder(folder)
    plan, branch = plan_upload(folder), revision or "main"
    report = PushReport(repo_id, branch, f"{api.endpoint}/{repo_id}", plan, notes=_notes(folder, plan))
    if dry_run:
        return report
    with explained(repo_id, api.endpoint), quiet(progress):
        api.whoami()
        make_repo(api, repo_id, "model", private)
        if revision not in (None, "main"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        before = api.model_info(repo_id, revision=branch)
        there = {file.rfilename for file in before.siblings or ()}
        kept = {file.path for file in plan.files}
        report.removed = sorted(path for path in there - kept if _is_of_a_model(path))
        say(f"Uploading {len(plan.files):,} files, {size_text(plan.total_bytes)}, to {report.url} …")
        operations = [
            CommitOperationAdd(file.path, _card(folder, repo_id) if file.path == "README.md" else folder / file.path)
            for file in plan.files
        ]
        operations += [CommitOperationDelete(path) for path in report.removed]
        report.commit = commit(api, operations, repo_id, "model", branch, "Upload recommender")
        report.changed = report.commit != before.sha
    return report


def push_space(
    repo_id: str,
    model_id: str,
    *,
    folder: Path | None = None,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
    api: HfApi | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> PushReport:
    """Upload the demo as a Gradio Space that loads a model of the Hub.

    The app finds the model's id in the Space's variable `LLM4REC_MODEL`, and the revision in `LLM4REC_REVISION` if
    there is one.

    Args:
        repo_id: `org/name` of the Space.
        model_id: `org/name` of the model.
        folder: of the app; by default `spaces_demo/`.
        revision: of the model.

    Raises:
        FileNotFoundError: if the folder has no `app.py`.
        ValueError, PermissionError, ConnectionError: as of `push_model`.
    """
    api = api if api is not None else HfApi()
    check_repo_id(repo_id)
    folder = check_space(folder)
    # Modules of a package come with the installed package, which the requirements name: a second copy would be dead.
    plan = plan_upload(folder, OF_A_SPACE if (folder / "__init__.py").is_file() else None)
    plan.files = [file for file in plan.files if file.path != "README.md"]
    card = _space_card(folder, repo_id, model_id).encode()
    report = PushReport(repo_id, "main", f"{api.endpoint}/spaces/{repo_id}", plan)
    if dry_run:
        return report
    with explained(repo_id, api.endpoint), quiet(progress):
        api.whoami()
        existing = _repo_of(api, repo_id, "space")
        if existing is None:
            api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private or None, exist_ok=True)
        elif private and not existing.private:
            raise ValueError(_PUBLIC_ALREADY.format(repo=f"The Space {repo_id}"))
        say(f"Uploading the Space, {len(plan.files) + 1:,} files, to {report.url} …")
        operations = [CommitOperationAdd(file.path, folder / file.path) for file in plan.files]
        operations.append(CommitOperationAdd("README.md", card))
        for name, value in {MODEL_VARIABLE: model_id, REVISION_VARIABLE: revision}.items():
            if value is not None:
                api.add_space_variable(repo_id, name, value)
        before = api.space_info(repo_id).sha
        report.commit = commit(api, operations, repo_id, "space", "main", "Upload demo")
        report.changed = report.commit != before
    return report


def check_repo_id(repo_id: str) -> None:
    """Raise `ValueError` if this is no name that a repository can have."""
    if REPO_NAME.fullmatch(repo_id) is None or "--" in repo_id or ".." in repo_id or repo_id[-1] in ".-":
        raise ValueError(
            f"{repo_id!r} is no name of a repository. Expected org/name: a user or organisation, a slash, and a name "
            "of letters, digits, '-', '_' and '.' that does not begin or end with '-' or '.'; 96 characters at most."
        )
    if repo_id.endswith(".git"):
        raise ValueError(f"{repo_id!r} is no name of a repository: it may not end in .git.")


def check_space(folder: Path | None = None) -> Path:
    """The folder of the demo; raises `FileNotFoundError` if there is no app to upload."""
    folder = SPACE_FOLDER if folder is None else folder
    if not (folder / "app.py").is_file():
        raise FileNotFoundError(
            f"{folder.name}/ has no app.py, so there is no Space to upload. Push the model without --space."
        )
    return folder


def size_text(size: int) -> str:
    """Bytes for people to read."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError


_PUBLIC_ALREADY = (
    "{repo} is public already, and --private makes new repositories private only. Make it private in its settings on "
    "the Hub, or choose another name."
)


KINDS = {"model": "a model", "dataset": "a data set", "space": "a Space"}
"""Kinds of repositories on the Hub, in words."""


def make_repo(api: HfApi, repo_id: str, kind: str, private: bool) -> None:
    """Make a repository of a model or data set unless it is there; raises `ValueError` if its name is taken."""
    existing = _repo_of(api, repo_id, kind)
    if existing is not None:
        if private and not existing.private:
            raise ValueError(_PUBLIC_ALREADY.format(repo=repo_id))
        return
    for other, named in KINDS.items():
        if other != kind and _repo_of(api, repo_id, other) is not None:
            option = "" if kind == "model" else f" --repo-type {kind}"
            raise ValueError(
                f"{repo_id} is {named} on the Hub, not {KINDS[kind]}. Choose another name; or, if {KINDS[kind][2:]} "
                f"and {named[2:]} shall have the same, make the repository first with `hf repos create {repo_id}"
                f"{option}`."
            )
    api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True)


def _is_of_a_model(path: str) -> bool:
    return ("/" not in path or path.startswith("memory/")) and any(fnmatch(path, pattern) for pattern in OF_A_MODEL)


def _repo_of(api: HfApi, repo_id: str, kind: str) -> Any:
    try:
        return api.repo_info(repo_id, repo_type=kind)
    except RepositoryNotFoundError:
        return None


def commit(api: HfApi, operations: list, repo_id: str, kind: str, branch: str, message: str) -> str:
    """Commit files to a branch; its hash, or that of the last commit if nothing has changed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
        info = api.create_commit(
            repo_id, operations, commit_message=f"{message} with llm4rec", repo_type=kind, revision=branch
        )
    return info.oid


@contextmanager
def quiet(progress: bool):
    """Bars only if they are wanted, and none of the client's remarks."""
    verbosity, hidden = hub_logging.get_verbosity(), are_progress_bars_disabled()
    hub_logging.set_verbosity_error()
    if not progress:
        disable_progress_bars()
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        if not progress and not hidden:
            enable_progress_bars()


def _notes(folder: Path, plan: UploadPlan) -> list[str]:
    """What the owner should know; raises `ValueError` if nobody else could load the model."""
    paths = {file.path for file in plan.files}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    backbone = config.get("backbone_name_or_path")
    if "adapter_config.json" in paths and backbone and Path(backbone).is_dir():
        raise ValueError(
            f"{folder} holds an adapter on {backbone}, a folder that nobody else has. Train with a backbone of the "
            "Hub, or with --set model.lora.merge=true for a model that stands alone."
        )
    notes = []
    if any(path.startswith("memory/") for path in paths):
        notes.append(
            "memory/ holds events of training: who can read it can learn what single users, by number, chose."
        )
    encoder = processor.get("items", {}).get("text_encoder")
    if encoder and Path(encoder).is_dir():
        notes.append(f"The text encoder {encoder} is a folder that nobody else has: they cannot add items with texts.")
    if "README.md" not in paths:
        notes.append("There is no README.md, which the Hub shows as the model card.")
    if "modeling_llm4rec.py" not in paths:
        notes.append("The model was saved without its code, so others need the llm4rec package. Save it again.")
    return notes


def _card(folder: Path, repo_id: str) -> bytes:
    """The model card, whose examples name the folder, with the name that readers use."""
    text = (folder / "README.md").read_bytes()
    for example in ('from_pretrained("{}"', 'model="{}"', "llm4rec recommend {} "):
        text = text.replace(example.format(folder.resolve().name).encode(), example.format(repo_id).encode())
    return text


def _space_card(folder: Path, repo_id: str, model_id: str) -> str:
    """The README of the Space, which tells the Hub how to run it and which model it shows."""
    path = folder / "README.md"
    card = RepoCard(path.read_text(encoding="utf-8") if path.is_file() else "---\n---\n")
    given = card.data.to_dict()
    title = repo_id.split("/")[-1]
    for name, value in {"title": title, "sdk": "gradio", "app_file": "app.py"}.items():
        card.data[name] = given.get(name, value)
    card.data["models"] = [model_id]
    return str(card)
