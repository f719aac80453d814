"""The evaluator's accuracy against ir_measures (trec_eval) on random scores."""

import numpy as np
import pytest
from llm4rec.training.data.prepared import Interactions
from llm4rec.training.data.splits import EvaluationSet
from llm4rec.training.evaluation.ranking_evaluator import RankingEvaluator

ir_measures = pytest.importorskip("ir_measures")
NAMES = {"hr": "Success", "recall": "R", "precision": "P", "ndcg": "nDCG", "mrr": "RR", "map": "AP"}
CASES, ITEMS = 60, 40


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_agrees_with_ir_measures_case_by_case(seed):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 15, size=CASES)
    histories = [generator.choice(ITEMS, size=length, replace=False) for length in lengths]
    targets = generator.integers(ITEMS, size=CASES).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events = Interactions(offsets, np.concatenate(histories).astype(np.int32), ITEMS)
    scores = generator.permuted(np.tile(np.arange(float(ITEMS)), (CASES, 1)), axis=1)
    position = iter(range(0, CASES, 7))
    ks = (1, 5, 10, 100)

    result = RankingEvaluator(EvaluationSet(np.arange(CASES), targets, events), ks=ks, batch_size=7).evaluate(
        lambda batch: scores[(start := next(position)) : start + batch.num_users]
    )

    relevant = {str(case): {str(target): 1} for case, target in enumerate(targets)}
    measures = {
        f"{name}@{k}": ir_measures.parse_measure(f"{theirs}@{k}") for name, theirs in NAMES.items() for k in ks
    }
    for protocol in ("filtered", "unfiltered"):
        run = {
            str(case): {
                str(item): scores[case, item]
                for item in range(ITEMS)
                if protocol == "unfiltered" or item == targets[case] or item not in histories[case]
            }
            for case in range(CASES)
        }
        found = {
            (str(value.measure), int(value.query_id)): value.value
            for value in ir_measures.iter_calc(list(measures.values()), relevant, run)
        }
        for name, measure in measures.items():
            theirs = [found[str(measure), case] for case in range(CASES)]
            np.testing.assert_allclose(result.values(f"{protocol}/{name}"), theirs, rtol=0, atol=1e-9)
            assert result.metrics[f"{protocol}/{name}"] == pytest.approx(np.mean(theirs), abs=1e-9)
