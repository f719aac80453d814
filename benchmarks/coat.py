"""Ratings of random items, predicted from ratings of chosen ones: one model, one seed, one JSON row.

    python benchmarks/coat.py llm4rec-relevance --seed 0 --data $DATA

Every user of Coat (Schnabel et al., *Recommendations as treatments*, ICML 2016) rated 24 coats of their own choice,
the train set, and 16 random ones, the test set; a rating above 3 is relevant. The row goes to
`benchmarks/results/coat/<model>-seed<k>.json`. Its metrics: `auc` over all test pairs, `ndcg@5` per user, where a user
without a relevant test item counts 1, and `ndcg@5-skip-empty` without those users.

Known ratings are history when a test pair is scored, as they would be at serving; a few test pairs were rated in train
too. Metrics under `new-pairs/` leave these out.

Everything was chosen by 5-fold cross-validation on train ratings, with inverse propensity weights, as
`--cross-validate` prints: `auc` weights every rating by 1/p, `ndcg@5` is of 16 items drawn from a user's ratings in
proportion to 1/p. The row holds them under `validation/`. The models `-ips`, `-snips` and `-dr` learn with the
propensities that come with the data; the others never see them.

    python benchmarks/coat.py --compare llm4rec-relevance-snips llm4rec-relevance --data $DATA

compares the seed means of two models, with intervals of the difference by a bootstrap over users.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llm4rec.benchmarks.run import RESULTS
from llm4rec.benchmarks.saved_ranks import RANKS
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForRelevance, LLM4RecProcessor
from llm4rec.training.baselines.matrix_factorisation import MatrixFactorisation
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.evaluation.report import report_row
from llm4rec.training.propensity.given import GivenPropensities
from llm4rec.training.relevance.fit import fit_relevance, predict_ratings
from sklearn.metrics import roc_auc_score

THRESHOLD = 3.0
LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
CUTOFF = 5
FOLDS = 5
TEST_ITEMS = 16
DRAWS = 10
LARGEST_WEIGHT = 50.0
"""Limit of the inverse propensities of validation."""
RESAMPLES = 2000

WIDTH = 16
RELEVANCE: dict[str, Any] = {"members": 1, "attention_heads": 1, "dropout": 0.2, "known_rating_weight": 0.7}
TRAINING: dict[str, Any] = {
    "max_steps": 200,
    "learning_rate": 0.01,
    "l2_id": 12.0,
    "l2_content": 6.0,
    "l2_user": 12.0,
    "l2_projection": 10.0,
    "average_steps": 50.0,
}
FACTORISATION: dict[str, Any] = {"width": 8, "l2": 8.0, "steps": 200, "learning_rate": 0.02}
MODELS: dict[str, dict[str, Any]] = {
    "mf": {"weighting": "none", "l2_bias": 4.0},
    "mf-ips": {"weighting": "ips", "clip": 1.5, "l2_bias": 1.0},
    "mf-dr": {"weighting": "doubly_robust", "clip": 1.5, "l2_bias": 8.0},
    "llm4rec-relevance": {"weighting": "none"},
    "llm4rec-relevance-without-known-ratings": {"weighting": "none", "relevance": {"known_rating_weight": 0.0}},
    "llm4rec-relevance-ips": {"weighting": "ips", "clip": 1.5},
    "llm4rec-relevance-snips": {"weighting": "snips", "clip": 1.5},
    "llm4rec-relevance-dr": {"weighting": "doubly_robust", "clip": 3.0},
}
"""What cross-validation chose; the model without known ratings shows what these bring, which it cannot tell."""


@dataclass
class Coat:
    """The data set.

    Attributes:
        train, test: ratings; of items in ascending order.
        propensities: (users, items) float64.
        user_attributes: (users, attributes) value ids from 1, in `attribute_names`, `attribute_sizes`.
        processor: of the coats.
    """

    train: Interactions
    test: Interactions
    propensities: np.ndarray
    user_attributes: np.ndarray
    attribute_names: list[str]
    attribute_sizes: list[int]
    processor: LLM4RecProcessor

    @property
    def train_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(ratings,) users and items of the train ratings."""
        return pairs_of(self.train)


def pairs_of(ratings: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """(events,) users and items."""
    return np.repeat(np.arange(ratings.num_users), ratings.lengths), ratings.items


def read_coat(folder: Path) -> Coat:
    """Read the data set.

    Raises:
        FileNotFoundError: if a file of it is missing.
    """
    names = ("train.ascii", "test.ascii", "propensities.ascii")
    names += tuple(f"user_item_features/{kind}_features{end}" for kind in ("user", "item") for end in FEATURE_FILES)
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} not found: expected the Coat data set in the folder of --data.")
    users, items = read_attributes(folder, "user"), read_attributes(folder, "item")
    table = {"item_id": [f"coat-{row}" for row in range(len(next(iter(items.values()))))], **items}
    table["style"] = [f"{gender} {kind}" for gender, kind in zip(items["gender"], items["jackettype"], strict=True)]
    processor = LLM4RecProcessor.from_catalog(
        table, {name: "categorical" for name in table if name != "item_id"}, rating_levels=LEVELS
    )
    coded = [np.unique(values, return_inverse=True) for values in users.values()]
    return Coat(
        train=interactions_of(np.loadtxt(folder / "train.ascii")),
        test=interactions_of(np.loadtxt(folder / "test.ascii")),
        propensities=np.loadtxt(folder / "propensities.ascii"),
        user_attributes=np.stack([ids + 1 for _, ids in coded], axis=1),
        attribute_names=list(users),
        attribute_sizes=[len(values) for values, _ in coded],
        processor=processor,
    )


FEATURE_FILES = (".ascii", "_map.txt")


def read_attributes(folder: Path, kind: str) -> dict[str, list[str]]:
    """Values of the attributes of users or items, from the one-hot columns that the map names `attribute:value`."""
    table, names = (folder / "user_item_features" / f"{kind}_features{end}" for end in FEATURE_FILES)
    columns = [line.split(":", 1) for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    flags = np.loadtxt(table)
    attributes = {}
    for name in dict.fromkeys(name for name, _ in columns):
        places = [place for place, column in enumerate(columns) if column[0] == name]
        values = [columns[place][1] for place in places]
        attributes[name] = [values[at] for at in flags[:, places].argmax(1)]
    return attributes


def interactions_of(ratings: np.ndarray) -> Interactions:
    """Ratings (users, items), 0 where there is none, as interactions."""
    users, items = np.nonzero(ratings)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(ratings)))])
    return Interactions(offsets, items.astype(np.int32), ratings.shape[1], ratings[users, items].astype(np.float32))


def fit_and_score(
    data: Coat, name: str, train: Interactions, pairs: tuple[np.ndarray, np.ndarray], seed: int, **changes: Any
) -> np.ndarray:
    """Fit a model to ratings and score pairs; `changes` replace what cross-validation chose."""
    options = MODELS[name] | changes
    weighting, propensity = options["weighting"], None
    if weighting != "none":
        users, items = pairs_of(train)
        propensity = GivenPropensities(users, items, data.propensities[users, items]).fit(train)
    if name.startswith("mf"):
        return MatrixFactorisation(**FACTORISATION | options, seed=seed).fit(train, propensity).predict(*pairs)
    training = TRAINING | {key: value for key, value in options.items() if key not in NOT_TRAINING}
    torch.manual_seed(seed)
    config = model_config(data, weighting, options.get("width", WIDTH), RELEVANCE | options.get("relevance", {}))
    model = LLM4RecForRelevance(config)
    model.set_items(data.processor.item_features())
    fit_relevance(
        model, train, data.user_attributes, propensity=propensity, clip=options.get("clip"), seed=seed, **training
    )
    return predict_ratings(model, train, *pairs, data.user_attributes, threshold=THRESHOLD).probability.numpy()


NOT_TRAINING = ("weighting", "clip", "width", "relevance")


def model_config(data: Coat, weighting: str, width: int, relevance: dict[str, Any]) -> LLM4RecConfig:
    """A relevance model of the coats; its decoder is as small as can be, for it is never run."""
    decoder = {"model_type": "gpt_neox", "vocab_size": 260, "hidden_size": width, "intermediate_size": width}
    decoder |= {"num_hidden_layers": 1, "num_attention_heads": 1, "tie_word_embeddings": True}
    return LLM4RecConfig(
        **data.processor.model_config(),
        text_config=decoder,
        initializer_range=0.1,
        id_dropout=0.2,
        loss_weighting=weighting,
        relevance={
            "user_attributes": data.attribute_names,
            "user_attribute_sizes": data.attribute_sizes,
            **relevance,
        },
    )


def user_ndcg(scores: np.ndarray, relevant: np.ndarray) -> float:
    """NDCG@5 of one user with binary relevance; NaN if nothing is relevant."""
    if not relevant.any():
        return float("nan")
    discounts = 1 / np.log2(np.arange(2, CUTOFF + 2))
    first = relevant[np.argsort(-scores, kind="stable")[:CUTOFF]]
    return float(discounts[: len(first)] @ first / discounts[: min(CUTOFF, int(relevant.sum()))].sum())


def ndcg_of_users(ratings: Interactions, scores: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """(users,) NDCG@5, NaN where nothing is relevant; `keep` (events,) says which events count."""
    keep = np.ones(len(scores), bool) if keep is None else keep
    relevant = ratings.ratings > THRESHOLD
    ends = zip(ratings.offsets[:-1], ratings.offsets[1:], strict=True)
    return np.array([user_ndcg(scores[a:b][keep[a:b]], relevant[a:b][keep[a:b]]) for a, b in ends])


def test_metrics(data: Coat, scores: np.ndarray) -> dict[str, float]:
    """Metrics of scores of all test pairs."""
    users, items = data.train_pairs
    test_users, test_items = pairs_of(data.test)
    width = data.test.num_items
    new = ~np.isin(test_users * width + test_items, users * width + items)
    found = {}
    for prefix, keep in (("", np.ones(len(scores), bool)), ("new-pairs/", new)):
        ndcg = ndcg_of_users(data.test, scores, keep)
        found[f"{prefix}auc"] = roc_auc_score(data.test.ratings[keep] > THRESHOLD, scores[keep])
        found[f"{prefix}ndcg@5"] = np.where(np.isnan(ndcg), 1, ndcg).mean()
        found[f"{prefix}ndcg@5-skip-empty"] = np.nanmean(ndcg)
    return {name: float(value) for name, value in found.items()}


def folds(lengths: np.ndarray) -> np.ndarray:
    """(ratings,) fold of every train rating: a user's ratings are spread over all folds."""
    generator = np.random.default_rng(0)
    parts = [(generator.permutation(n) + generator.integers(FOLDS)) % FOLDS for n in lengths]
    return np.concatenate(parts)


def cross_validated(data: Coat, name: str, seed: int = 0, **changes: Any) -> dict[str, float]:
    """Metrics of out-of-fold scores of the train ratings, see the top of this file."""
    train = data.train
    users, items = data.train_pairs
    fold = folds(train.lengths)
    scores = np.zeros(len(users))
    for number in range(FOLDS):
        held = fold == number
        scores[held] = fit_and_score(data, name, train.keep(~held), (users[held], items[held]), seed, **changes)
    return validation_metrics(data, scores)


def validation_metrics(data: Coat, scores: np.ndarray) -> dict[str, float]:
    """Weighted AUC, and NDCG@5 of sets that look like the test set."""
    weights = np.minimum(1 / data.propensities[data.train_pairs], LARGEST_WEIGHT)
    relevant = data.train.ratings > THRESHOLD
    generator = np.random.default_rng(7)
    ndcg = []
    for first, last in zip(data.train.offsets[:-1], data.train.offsets[1:], strict=True):
        # Without replacement in proportion to the weights: the largest of log w plus Gumbel noise.
        keys = np.log(weights[first:last]) + generator.gumbel(size=(DRAWS, last - first))
        for drawn in first + np.argsort(-keys, axis=1)[:, :TEST_ITEMS]:
            ndcg.append(user_ndcg(scores[drawn], relevant[drawn]))
    return {
        "auc": float(roc_auc_score(relevant, scores, sample_weight=weights)),
        "unweighted-auc": float(roc_auc_score(relevant, scores)),
        "ndcg@5": float(np.where(np.isnan(ndcg), 1, ndcg).mean()),
        "ndcg@5-skip-empty": float(np.nanmean(ndcg)),
    }


def run(data: Coat, name: str, seed: int, validation: dict[str, float]) -> dict[str, Any]:
    """Fit a model to all train ratings, score the test pairs, keep the scores, and assemble the row."""
    started = time.perf_counter()
    scores = fit_and_score(data, name, data.train, pairs_of(data.test), seed)
    path = RANKS / "coat" / f"{name}-seed{seed}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, scores.astype(np.float32))
    metrics = test_metrics(data, scores) | {f"validation/{metric}": value for metric, value in validation.items()}
    options = MODELS[name]
    return report_row(
        "coat",
        name,
        "random test items",
        metrics,
        seed=seed,
        seconds=time.perf_counter() - started,
        command=f"python benchmarks/coat.py {shlex.quote(name)} --seed {seed} --data $DATA",
        config={
            **(FACTORISATION if name.startswith("mf") else {"width": WIDTH, "relevance": RELEVANCE, **TRAINING}),
            **options,
            "propensities": "none" if options["weighting"] == "none" else "given",
            "threshold": THRESHOLD,
            "folds": FOLDS,
            "validation": "out-of-fold scores of seed 0, weights 1/p",
            "test_pairs": len(scores),
        },
    )


def aucs_of_resamples(relevant: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUC of weighted pairs, for many weightings; equal scores are broken by their order.

    Shape:
        - relevant, scores: (pairs,); counts: (resamples, pairs); returns: (resamples,)
    """
    order = np.argsort(scores, kind="stable")
    positive = counts[:, order] * relevant[order]
    negative = counts[:, order] * ~relevant[order]
    return (positive * np.cumsum(negative, axis=1)).sum(1) / (positive.sum(1) * negative.sum(1))


def compare(data: Coat, a: str, b: str) -> dict[str, Any]:
    """The row that compares the seed means of two models by their kept scores.

    Raises:
        FileNotFoundError: if a model has no kept scores.
    """
    started = time.perf_counter()
    relevant, users = data.test.ratings > THRESHOLD, pairs_of(data.test)[0]
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(
        data.test.num_users, np.full(data.test.num_users, 1 / data.test.num_users), RESAMPLES
    )
    counts = np.concatenate([np.ones_like(drawn[:1]), drawn]).astype(np.float64)  # the users themselves come first
    means, seeds = {}, {}
    for name in (a, b):
        paths = sorted((RANKS / "coat").glob(f"{name}-seed[0-9]*.npy"))
        if not paths:
            raise FileNotFoundError(f"{RANKS / 'coat'} holds no scores of {name}; run it first.")
        seeds[name] = len(paths)
        for path in paths:
            scores = np.load(path)
            ndcg = ndcg_of_users(data.test, scores)
            some = ~np.isnan(ndcg)
            found = {
                "auc": aucs_of_resamples(relevant, scores, counts[:, users]),
                "ndcg@5": counts @ np.where(some, ndcg, 1) / counts.sum(1),
                "ndcg@5-skip-empty": counts[:, some] @ ndcg[some] / counts[:, some].sum(1),
            }
            for metric, values in found.items():
                means[name, metric] = means.get((name, metric), 0) + values / len(paths)
    metrics = {}
    for metric in found:
        first, second = means[a, metric], means[b, metric]
        low, high = np.quantile((first - second)[1:], [0.025, 0.975])
        facts = {"a": first[0], "b": second[0], "difference": first[0] - second[0], "low": low, "high": high}
        metrics |= {f"{metric}/{fact}": float(value) for fact, value in facts.items()}
    return report_row(
        "coat",
        f"{a}-vs-{b}",
        "random test items",
        metrics,
        seconds=time.perf_counter() - started,
        command=f"python benchmarks/coat.py --compare {a} {b} --data $DATA",
        config={
            "a": a,
            "b": b,
            "seeds": seeds,
            "users": data.test.num_users,
            "resamples": RESAMPLES,
            "confidence": 0.95,
            "interval": "percentile bootstrap over users of the difference, metrics averaged over seeds first",
        },
    )


def write(row: dict[str, Any], stem: str) -> Path:
    """Write a row to `benchmarks/results/coat/`; returns its path."""
    path = RESULTS / "coat" / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    return path


def show(title: str, metrics: dict[str, float]) -> None:
    """One line of metrics for people."""
    print(f"{title}: " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", choices=MODELS)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the folder coat")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one or more; a row each")
    parser.add_argument("--cross-validate", action="store_true", help="only print what models were chosen by")
    parser.add_argument("--compare", nargs=2, choices=MODELS, metavar=("A", "B"), help="compare models that were run")
    args = parser.parse_args()
    data = read_coat(args.data / "coat")
    if args.compare:
        a, b = args.compare
        row = compare(data, a, b)
        print(write(row, f"comparison-{a}-vs-{b}"))
        show(row["model"], row["metrics"])
        return
    if args.model is None:
        parser.error("name a model, or --compare two.")
    if args.cross_validate:
        for seed in args.seed:
            show(f"{args.model}, seed {seed}, {FOLDS} folds", cross_validated(data, args.model, seed))
        return
    validation = cross_validated(data, args.model)
    for seed in args.seed:
        row = run(data, args.model, seed, validation)
        show(str(write(row, f"{args.model}-seed{seed}")), row["metrics"])


if __name__ == "__main__":
    main()
