"""Moving average of weights: its values, what the model holds meanwhile, what a checkpoint gives back."""

import pytest
import torch
from llm4rec.training.weight_averaging import WeightAverage


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def walk(model, average, steps):
    """Random steps; returns the weight after each."""
    path = [model.weight.detach().clone()]
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight += torch.randn_like(model.weight)
        average.update(step)
        path.append(model.weight.detach().clone())
    return path


def test_a_horizon_of_one_step_keeps_up_with_the_weights(model):
    average = WeightAverage(model, horizon=1)
    last = walk(model, average, 5)[-1]
    with average.in_place():
        torch.testing.assert_close(model.weight.detach(), last)


def test_late_averages_weigh_steps_by_the_power_of_their_age(model):
    average = WeightAverage(model, horizon=4)
    path = walk(model, average, 200)
    weights = 0.25 * 0.75 ** torch.arange(101.0)
    expected = sum(weight * step for weight, step in zip(weights, reversed(path[-101:]), strict=True))
    with average.in_place():
        torch.testing.assert_close(model.weight.detach(), expected, atol=1e-5, rtol=1e-4)


def test_the_average_leaves_trained_weights_as_slowly_as_any_later_ones(model):
    for trained, share in ((True, 0.1), (False, 9 / 11)):  # without training, the first steps are soon forgotten
        average = WeightAverage(model, horizon=10, trained=trained)
        first, second = walk(model, average, 1)
        with average.in_place():
            torch.testing.assert_close(model.weight.detach(), first + share * (second - first))


def test_training_goes_on_from_its_own_weights(model):
    average = WeightAverage(model, horizon=10)
    last = walk(model, average, 3)[-1]
    with average.in_place():
        assert not torch.equal(model.weight, last)
    assert torch.equal(model.weight, last)


def test_a_checkpoint_gives_back_average_and_weights(model, tmp_path):
    average = WeightAverage(model, horizon=10)
    last = walk(model, average, 3)[-1]
    average.save_trained_weights(tmp_path)
    with average.in_place():
        shipped = model.weight.detach().clone()
    resumed = torch.nn.Linear(3, 2)
    resumed.load_state_dict({"weight": shipped, "bias": model.bias})
    again = WeightAverage(resumed, horizon=10)
    again.resume(tmp_path)
    assert torch.equal(resumed.weight, last)
    with again.in_place():
        assert torch.equal(resumed.weight, shipped)


def test_a_checkpoint_without_an_average_says_so(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="average_epochs"):
        WeightAverage(model, horizon=10).resume(tmp_path)


def test_frozen_weights_are_left_alone(model):
    model.bias.requires_grad_(False)
    average = WeightAverage(model, horizon=10)
    with torch.no_grad():
        model.bias += 1
    average.update(1)
    bias = model.bias.clone()
    average.finish()
    assert torch.equal(model.bias, bias)
