import numpy as np
import pytest
from llm4rec.training.evaluation.continual import continual_metrics


def test_known_answer():
    accuracy = np.array([[0.4, 0, 0], [0.3, 0.5, 0], [0.2, 0.4, 0.6]])
    metrics = continual_metrics(accuracy)
    assert metrics["learning_average"] == pytest.approx((0.5 + 0.6) / 2)
    assert metrics["retained_average"] == pytest.approx((0.3 + (0.2 + 0.4) / 2) / 2)
    assert metrics["harmonic_mean"] == pytest.approx(2 / (1 / 0.55 + 1 / 0.3))
    assert metrics["forgetting"] == pytest.approx((0.2 + 0.1) / 2)
    assert metrics["backward_transfer"] == pytest.approx(-(0.2 + 0.1) / 2)


def test_forgetting_is_counted_from_the_best_moment():
    accuracy = np.array([[0.2, 0, 0], [0.5, 0.5, 0], [0.3, 0.5, 0.5]])
    metrics = continual_metrics(accuracy)
    assert metrics["forgetting"] == pytest.approx(0.2 / 2)
    assert metrics["backward_transfer"] == pytest.approx(0.1 / 2)


def test_who_never_changes_forgets_nothing():
    accuracy = np.tile([0.3, 0.2, 0.4], (3, 1))
    metrics = continual_metrics(accuracy)
    assert metrics["forgetting"] == 0
    assert metrics["backward_transfer"] == 0


def test_what_lies_ahead_is_not_read():
    accuracy = np.array([[0.4, np.nan], [0.3, 0.5]])
    assert np.isfinite(list(continual_metrics(accuracy).values())).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4,)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="expected a square"):
        continual_metrics(np.zeros(shape))
