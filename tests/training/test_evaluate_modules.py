"""The Hugging Face `evaluate` modules load by path without a network and agree with the evaluator and their cards."""

import ast
import re
from pathlib import Path

import llm4rec
import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import EvaluationSet
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator

FOLDER = Path(llm4rec.__file__).parent / "training" / "evaluation" / "modules"
NAMES = sorted(path.name for path in FOLDER.iterdir() if (path / f"{path.name}.py").is_file())


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Load a module by path, with caches of its own and the Hub forbidden."""
    import evaluate
    from evaluate import config

    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(config, "HF_EVALUATE_OFFLINE", True)
        patch.setattr(config, "HF_MODULES_CACHE", str(folder / "modules"))
        yield lambda name: evaluate.load(str(FOLDER / name), cache_dir=str(folder / "cache"))


def test_the_modules_are_there():
    assert NAMES == ["coverage", "gini", "hr", "mrr", "ndcg", "novelty", "recall"]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_the_card_holds(load, name):
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    call, expected = re.search(rf"^({name}\.compute\(.*\))\n# (.*)$", card, re.MULTILINE).groups()
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in ast.parse(call).body[0].value.keywords}
    assert load(name).compute(**arguments) == pytest.approx(ast.literal_eval(expected))


@pytest.mark.parametrize("name", NAMES)
def test_a_module_agrees_with_the_evaluator(load, name):
    generator = np.random.default_rng(0)
    cases, items = 30, 25
    scores = generator.permuted(np.tile(np.arange(float(items)), (cases, 1)), axis=1)
    targets = generator.integers(items, size=cases)
    counts = generator.integers(9, size=items)
    events = Interactions(np.arange(cases + 1), generator.integers(items, size=cases), items)
    evaluator = RankingEvaluator(EvaluationSet(np.arange(cases), targets, events), ks=(5,), item_counts=counts)
    expected = evaluator.evaluate(lambda histories: scores).metrics[f"unfiltered/{name}@5"]

    arguments = {"predictions": np.argsort(-scores, axis=1).tolist()}
    if name in {"coverage", "gini"}:
        arguments["num_items"] = items
    elif name == "novelty":
        arguments["item_counts"] = dict(enumerate(counts.tolist()))
    else:
        arguments["references"] = targets[:, None].tolist()
    assert load(name).compute(**arguments, k=5)[f"{name}@5"] == pytest.approx(expected, abs=1e-9)


def test_several_relevant_items_agree_with_ir_measures(load):
    ir_measures = pytest.importorskip("ir_measures")
    generator = np.random.default_rng(1)
    rankings = [[f"i{item}" for item in generator.permutation(20)[:12]] for _ in range(20)]
    relevant = [[f"i{item}" for item in generator.permutation(20)[: generator.integers(1, 9)]] for _ in rankings]
    qrels = {str(case): dict.fromkeys(items, 1) for case, items in enumerate(relevant)}
    run = {str(case): {item: -place for place, item in enumerate(items)} for case, items in enumerate(rankings)}
    for name, theirs in {"hr": "Success", "recall": "R", "ndcg": "nDCG", "mrr": "RR"}.items():
        measure = ir_measures.parse_measure(f"{theirs}@5")
        expected = ir_measures.calc_aggregate([measure], qrels, run)[measure]
        found = load(name).compute(predictions=rankings, references=relevant, k=5)[f"{name}@5"]
        assert found == pytest.approx(expected, abs=1e-9)


def test_a_repeated_item_and_an_empty_reference_are_refused(load):
    with pytest.raises(ValueError, match=r"predictions\[1\] names an item twice"):
        load("hr").compute(predictions=[["a"], ["b", "b"]], references=[["a"], ["b"]])
    with pytest.raises(ValueError, match=r"references\[0\] is empty"):
        load("mrr").compute(predictions=[["a"]], references=[[]])
    with pytest.raises(ValueError, match="'b' is recommended but not in item_counts"):
        load("novelty").compute(predictions=[["a", "b"]], item_counts={"a": 1})
