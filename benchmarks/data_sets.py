"""The data sets of the benchmarks: how each is prepared, and what is known of its items and users beyond who had what.

`benchmarks/run.py` prepares one and has every model judged by the same evaluator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llm4rec.modeling_llm4rec.text_encoding import HashingTextEncoder, SentenceTransformerEncoder, encode_cached
from llm4rec.training.data.prepare import prepare
from llm4rec.training.data.prepared import PreparedData
from llm4rec.training.data.splits import EvaluationSet, Split
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator
from llm4rec.training.simulation.world import World


@dataclass(frozen=True)
class DataSet:
    """How to prepare a data set and judge on it.

    Attributes:
        source: of `llm4rec prepare`; `None`: the built-in world, which needs no files.
        recipe: that models are trained by.
        categories: item column whose values say how alike two items are.
        user_group: user column by which accuracy is compared.
    """

    source: str | None
    recipe: str
    categories: str
    user_group: str | None = None


DATA_SETS = {
    "amazon-beauty": DataSet("sequences", "amazon-beauty", "category_paths_json"),
    "ml-latest-small": DataSet("movielens", "movielens", "genres"),
    "ml-100k": DataSet("movielens", "movielens", "genres", "gender"),
    "ml-1m": DataSet("movielens", "movielens-1m", "genres", "gender"),
    "world": DataSet(None, "quickstart", "category", "group"),
}


def prepared(name: str, raw: Path | None, work: Path) -> PreparedData:
    """The data set, from `work/<name>` if an earlier run prepared it there, else from the raw files.

    Args:
        raw: folder that holds the raw data sets, each in a folder of its name.

    Raises:
        ValueError: if the raw files are needed and no folder is given.
    """
    folder = work / name
    if folder.exists():
        return PreparedData.load(folder)
    source = DATA_SETS[name].source
    if source is None:
        return World().prepared(folder)
    if raw is None:
        raise ValueError(f"{folder} holds no prepared data; give the folder of the raw files with --data.")
    prepare(source, raw / name, folder)
    return PreparedData.load(folder)


def judge(data: PreparedData, dataset: DataSet, split: Split) -> RankingEvaluator:
    """The evaluator of the test cases, with everything that is known of items and users.

    Intra-list diversity by vectors uses the built-in text encoder on the titles for every model alike: a model whose
    own embeddings said how diverse its lists are would be its own judge.
    """
    users = None if dataset.user_group is None else data.users[dataset.user_group]
    return RankingEvaluator(
        split.test,
        item_counts=split.train.item_counts(),
        item_categories=data.items[dataset.categories].to_list(),
        item_vectors=title_vectors(data, None),
        user_groups=users,
        keep_lists=True,
    )


def validation_evaluator(cases: EvaluationSet) -> RankingEvaluator:
    """The evaluator that every choice goes by."""
    return RankingEvaluator(cases, ks=(10,))


def title_vectors(data: PreparedData, text_encoder: str | None) -> np.ndarray:
    """(items, d) float32 vectors of the titles, zeros for items without one.

    Args:
        text_encoder: a sentence-transformers id or folder; `None`: the built-in one, fitted on the catalog.
    """
    titles = data.items[data.schema.items.title].to_list()
    known = [title for title in titles if title]
    encoder: Any = HashingTextEncoder.fit(known) if text_encoder is None else SentenceTransformerEncoder(text_encoder)
    found = encode_cached(encoder, known, data.folder / "text_vectors", progress=False)
    vectors = np.zeros((len(titles), found.shape[1]), dtype=np.float32)
    vectors[[place for place, title in enumerate(titles) if title]] = found
    return vectors
