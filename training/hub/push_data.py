"""A prepared data set becomes a data set on the Hub, which `datasets.load_dataset` reads.

Called by `llm4rec push --type dataset`. What is published cannot be taken back, so user ids become pseudonyms, users'
attributes and examples of bad rows stay here, and data that others gave under terms needs a word that one may.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi

from ...configuration.schema import DataSchema
from ..data.prepared import FILES, PreparedData, read_stats
from ..data.terms import Terms, terms_of
from .explain import explained
from .pseudonyms import key_of, pseudonyms
from .push import PushReport, check_repo_id, commit, make_repo, quiet, size_text
from .upload_plan import LeftOut, PlannedFile, UploadPlan, line_with_token

SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
SIZES |= {10**8: "10M<n<100M", 10**9: "100M<n<1B"}
"""Names that the Hub has for numbers of rows below each of these."""

CARD = """---
{{ card_data }}
---

# {{ name }}

{{ events }} interactions of {{ users }} users with {{ items }} items, prepared with LLM4Rec.
{%- if terms %} {{ terms }}{% endif %}

```python
from datasets import load_dataset

interactions = load_dataset("{{ repo }}", "interactions", split="train")
items = load_dataset("{{ repo }}", "items", split="train")
```

A folder with these files is a prepared data set: `hf download {{ repo }} --repo-type dataset --local-dir data`, then
`llm4rec train data --output model`.

| part | rows | columns |
|---|---|---|
{% for part in parts -%}
| `{{ part.name }}` | {{ part.rows }} | {{ part.columns }} |
{% endfor %}
Rows of `interactions` stand by user, then in time order (`position`). Items: {{ modalities }}.

## People

{{ people }} Whoever knows some of a person's events can find the others, whatever the ids: times and ratings are as
they were. Attributes of users were left out{{ attributes }}, and so were the raw rows and logs of feedback.

## Limits

A log says what was chosen of what was shown, so popular items are overrepresented and what nobody was shown is
missing. Texts of items are as their source gave them.
"""


def push_data(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
    licence: str | None = None,
    redistribute: bool = False,
    keep_user_ids: bool = False,
    api: HfApi | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> PushReport:
    """Upload a prepared data set.

    Args:
        folder: of `llm4rec prepare`.
        repo_id, private, revision, dry_run, api, say, progress: as of `push_model`.
        licence: id of the licence under which it is given, such as `cc-by-4.0`; by default none is named.
        redistribute: the owner of a public data set lets us publish it again.
        keep_user_ids: publish user ids as they are, where they are pseudonyms already.

    Raises:
        FileNotFoundError: if the folder holds no prepared data set.
        ValueError: if the data was given under terms and `redistribute` is not said, a file is damaged or holds a Hub
            token, or the name is malformed or taken.
        PermissionError, ConnectionError: as of `push_model`.
    """
    api = api if api is not None else HfApi()
    check_repo_id(repo_id)
    folder = Path(folder).expanduser()
    read_stats(folder)
    terms = terms_of(DataSchema.load(folder / "schema.yaml").source)
    if terms is not None and not redistribute:
        raise ValueError(
            f"{folder} was made of {terms.name}, which others own. {terms.sentence} If you may publish it, say so "
            "with --redistribute."
        )
    data, branch = PreparedData.load(folder), revision or "main"
    with tempfile.TemporaryDirectory(prefix="llm4rec-push-") as scratch:
        copy = Path(scratch)
        key = None if keep_user_ids else secrets.token_bytes() if dry_run else key_of(folder)
        attributes = _write_copy(data, copy, key)
        _write_card(data, copy, repo_id, licence, terms, keep_user_ids, attributes)
        plan = UploadPlan(folder)
        for file in sorted(copy.iterdir()):
            line = None if file.suffix == ".parquet" else line_with_token(file)
            if line is not None:
                raise ValueError(f"{folder} is not uploaded: {file.name}, line {line:,}, would hold a Hub token.")
            plan.files.append(PlannedFile(file.name, file.stat().st_size))
        plan.left_out += [
            LeftOut(f"{path.name}/" if path.is_dir() else path.name, _size(path), "no part of the data set")
            for path in sorted(folder.iterdir())
            if path.name not in FILES
        ]
        report = PushReport(repo_id, branch, f"{api.endpoint}/datasets/{repo_id}", plan)
        report.notes += _notes(data, licence, keep_user_ids, attributes)
        if dry_run:
            return report
        with explained(repo_id, api.endpoint), quiet(progress):
            api.whoami()
            make_repo(api, repo_id, "dataset", private)
            if branch != "main":
                api.create_branch(repo_id, branch=branch, repo_type="dataset", exist_ok=True)
            before = api.dataset_info(repo_id, revision=branch)
            say(f"Uploading {len(plan.files):,} files, {size_text(plan.total_bytes)}, to {report.url} …")
            operations = [CommitOperationAdd(file.path, copy / file.path) for file in plan.files]
            report.commit = commit(api, operations, repo_id, "dataset", branch, "Upload data set")
            report.changed = report.commit != before.sha
    return report


def _write_copy(data: PreparedData, copy: Path, key: bytes | None) -> list[str]:
    """The files as they are published; returns the attributes of users that were left out."""
    users = data.users["user_id"].to_list()
    events = pl.read_parquet(data.folder / "interactions.parquet")
    if key is not None:
        names = pseudonyms(users, key)
        users = sorted(names.values())  # an order that says nothing of the one here
        order = {user: place for place, user in enumerate(users)}
        events = (
            events.with_columns(pl.col("user_id").replace_strict(names))
            .with_columns(pl.col("user_id").replace_strict(order, return_dtype=pl.Int64).alias("_order"))
            .sort("_order", "position")
            .drop("_order")
        )
    events.write_parquet(copy / "interactions.parquet")
    pl.DataFrame({"user_id": users}, schema={"user_id": pl.String}).write_parquet(copy / "users.parquet")
    data.items.write_parquet(copy / "items.parquet")
    schema = DataSchema.load(data.folder / "schema.yaml")
    attributes = [*schema.users.attributes, *schema.users.sensitive]
    schema.users.attributes, schema.users.sensitive = [], []
    schema.save(copy / "schema.yaml")
    (copy / "stats.json").write_text(json.dumps(_counts(data.stats), indent=2) + "\n", encoding="utf-8")
    return attributes


def _counts(stats: dict[str, Any]) -> dict[str, Any]:
    """What `prepare` counted, without examples of rows and names of files."""
    kept: dict[str, Any] = {}
    for name, value in stats.items():
        if isinstance(value, dict):
            kept[name] = _counts(value)
        elif value is None or isinstance(value, (bool, int, float)) or name == "source":
            kept[name] = value
    return kept


def _write_card(
    data: PreparedData,
    copy: Path,
    repo_id: str,
    licence: str | None,
    terms: Terms | None,
    keep_user_ids: bool,
    attributes: list[str],
) -> None:
    parts = ("interactions", "items", "users")
    tables = {name: pl.scan_parquet(copy / f"{name}.parquet") for name in parts}
    rows = {name: table.select(pl.len()).collect().item() for name, table in tables.items()}
    stated: dict[str, Any] = {}
    if terms is not None and licence is None:
        stated = {"license": "other", "license_name": terms.name.lower().replace(" ", "-"), "license_link": terms.url}
    elif licence is not None:
        stated = {"license": licence}
    modalities = ", ".join(f"`{name}` ({modality.kind})" for name, modality in data.schema.items.modalities.items())
    card = DatasetCard.from_template(
        DatasetCardData(
            pretty_name=repo_id.split("/")[1],
            tags=["llm4rec", "recommendation", "sequential-recommendation"],
            size_categories=[next((name for most, name in SIZES.items() if rows["interactions"] < most), "n>1T")],
            configs=[
                {"config_name": name, "data_files": f"{name}.parquet"}
                | ({"default": True} if name == parts[0] else {})
                for name in parts
            ],
            **stated,
        ),
        template_str=CARD,
        name=repo_id.split("/")[1],
        repo=repo_id,
        events=f"{rows['interactions']:,}",
        users=f"{rows['users']:,}",
        items=f"{rows['items']:,}",
        terms=None if terms is None else terms.sentence,
        parts=[
            {
                "name": name,
                "rows": f"{rows[name]:,}",
                "columns": ", ".join(f"`{column}`" for column in tables[name].collect_schema().names()),
            }
            for name in parts
        ],
        modalities=modalities or "nothing but ids",
        people=(
            "User ids are those of the source."
            if keep_user_ids
            else "User ids are pseudonyms, made with a key that was not published."
        ),
        attributes=f" ({', '.join(f'`{name}`' for name in attributes)})" if attributes else "",
    )
    card.save(copy / "README.md")


def _notes(data: PreparedData, licence: str | None, keep_user_ids: bool, attributes: list[str]) -> list[str]:
    notes = ["Pseudonymous is not anonymous: who knows some of a person's events can find the others."]
    if keep_user_ids:
        notes.append("User ids are published as they are.")
    if attributes:
        notes.append(f"Attributes of users stay here: {', '.join(attributes)}.")
    if licence is None and terms_of(data.schema.source) is None:
        notes.append("No licence is named, so readers may not use the data; name one with --license.")
    return notes


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if not file.is_dir())
