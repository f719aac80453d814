"""`llm4rec push`: a model folder or a prepared data set goes to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Console, JsonOption, quiet_libraries, quoted

NAME = "push"


def command(
    model: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Model (`llm4rec train`) or prepared data (`llm4rec prepare`)."),
    ],
    repo: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository on the Hub; made if it is not there.")],
    kind: Annotated[str, typer.Option("--type", help="What the folder holds: `model` or `dataset`.")] = "model",
    space: Annotated[
        bool, typer.Option("--space", help="Also upload the demo, as a Space of the same name that loads the model.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to upload to; made if it is not there. Default: main.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be uploaded and what not; send nothing.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Of a data set: the licence to name, such as cc-by-4.0."),
    ] = None,
    redistribute: Annotated[
        bool, typer.Option("--redistribute", help="Of a data set that others own: you may publish it again.")
    ] = False,
    keep_user_ids: Annotated[
        bool, typer.Option("--keep-user-ids", help="Of a data set: publish user ids as they are, not pseudonyms.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a model or a data set to the Hugging Face Hub. Stopped, the same command goes on where it was."""
    if kind not in ("model", "dataset"):
        raise typer.BadParameter(f"--type is {kind!r}, expected model or dataset.")
    if kind == "dataset" and space:
        raise typer.BadParameter("--space shows a model; leave it out with --type dataset.")
    if kind == "model" and (licence or redistribute or keep_user_ids):
        raise typer.BadParameter("--license, --redistribute and --keep-user-ids are of data sets: add --type dataset.")
    console = Console(as_json)
    quiet_libraries()
    if kind == "dataset":
        _push_data(console, model, repo, private, revision, dry_run, licence, redistribute, keep_user_ids)
        return
    from ..hub.push import check_repo_id, check_space, push_model, push_space

    check_repo_id(repo)
    if space:
        check_space()
    options: dict[str, Any] = {"private": private, "revision": revision, "dry_run": dry_run, "say": console.say}
    options["progress"] = console.shows_progress
    try:
        report = push_model(model, repo, **options)
        _show(console, report, dry_run)
        demo = push_space(repo, repo, **options) if space else None
        if demo is not None:
            _show(console, demo, dry_run)
    except KeyboardInterrupt:
        console.say("What has arrived stays there: run the same command again and only the rest is sent.")
        raise
    if not dry_run:
        load = f'LLM4RecForCausalLM.from_pretrained("{repo}", revision="{revision}")'
        console.say(f"Next: {load if revision else f'llm4rec recommend {quoted(repo)}'}")
    facts = _facts(report, dry_run) | {"private": private}
    console.result(facts if demo is None else facts | {"space": _facts(demo, dry_run)})


def _push_data(
    console: Console,
    folder: Path,
    repo: str,
    private: bool,
    revision: str | None,
    dry_run: bool,
    licence: str | None,
    redistribute: bool,
    keep_user_ids: bool,
) -> None:
    from ..hub.push_data import push_data

    report = push_data(
        folder,
        repo,
        private=private,
        revision=revision,
        dry_run=dry_run,
        licence=licence,
        redistribute=redistribute,
        keep_user_ids=keep_user_ids,
        say=console.say,
        progress=console.shows_progress,
    )
    _show(console, report, dry_run)
    if not dry_run:
        console.say(f'Next: datasets.load_dataset("{repo}", "interactions")')
    console.result(_facts(report, dry_run) | {"private": private})


def _show(console: Console, report: Any, dry_run: bool) -> None:
    from ..hub.push import size_text

    plan = report.plan
    if dry_run:
        console.table(
            ["file", "size"],
            [[file.path, size_text(file.size)] for file in plan.files],
        )
    if plan.left_out:
        console.say(
            "Left out: " + "; ".join(f"{out.path} ({size_text(out.size)}, {out.reason})" for out in plan.left_out)
        )
    if report.removed:
        console.say(f"Removed there, of an earlier model: {', '.join(report.removed)}")
    for note in report.notes:
        console.say(f"Note: {note}")
    total = f"{len(plan.files):,} files, {size_text(plan.total_bytes)}"
    if dry_run:
        console.say(f"Would upload {total} to {report.url}, revision {report.revision}. Nothing was sent.")
    elif report.changed:
        console.say(f"Uploaded {total}: {report.url} (commit {report.commit[:10]} of {report.revision})")
    else:
        console.say(f"Nothing has changed since commit {report.commit[:10]}: {report.url}")


def _facts(report: Any, dry_run: bool) -> dict[str, Any]:
    return {
        "repo": report.repo,
        "url": report.url,
        "revision": report.revision,
        "dry_run": dry_run,
        "commit": report.commit,
        "changed": report.changed,
        "files": [{"path": file.path, "bytes": file.size} for file in report.plan.files],
        "total_bytes": report.plan.total_bytes,
        "left_out": [{"path": out.path, "bytes": out.size, "reason": out.reason} for out in report.plan.left_out],
        "removed": report.removed,
        "notes": report.notes,
    }
