"""Shortened histories are what the processor would have made of them."""

import numpy as np
import pytest
import torch
from llm4rec.modeling_llm4rec.event_removal import without_events

ITEMS = ["i0", "i4", "i2", "i5", "i0"]
RATINGS = [5, 3, 2, None, 1]


def of(processor, keep, times, **kwargs):
    pick = lambda values: [[values[place] for place in keep]]  # noqa: E731
    return processor(histories=pick(ITEMS), ratings=pick(RATINGS), timestamps=pick(times), return_tensors="pt")


def shortened(processor, times, places):
    batch = of(processor, range(5), times)
    removed = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    removed[0, [1 + place for place in places]] = True
    return without_events(batch, torch.tensor([0]), removed, processor.num_time_gaps)


@pytest.mark.parametrize("places", [[0], [2], [4], [0, 4], [1, 2], [0, 1, 2, 3, 4]])
def test_a_shortened_history_reads_like_one_without_the_events(processor, places):
    times = [0, 0, 0, 0, 0]  # one second: gaps add up exactly
    short = shortened(processor, times, places)
    whole = of(processor, [place for place in range(5) if place not in places], times)
    left = short["attention_mask"][0].bool()
    for name in ("input_ids", "rating_ids", "time_gap_ids"):
        assert short[name][0, left].tolist() == whole[name][0].tolist(), name
        assert not short[name][0, ~left].any()


def test_scores_do_not_tell_a_shortened_history_from_one_made_so(model, processor):
    times = [0] * 5
    whole = of(processor, [0, 1, 3, 4], times)
    torch.testing.assert_close(
        model.score_items(**shortened(processor, times, [2])), model.score_items(**whole), atol=1e-5, rtol=0
    )


def test_the_gap_over_a_removed_event_is_at_most_one_bucket_off(processor):
    generator = np.random.default_rng(0)
    for _ in range(50):
        times = np.cumsum(2 ** generator.uniform(0, 22, size=5)).astype(int).tolist()
        short = shortened(processor, times, [2])["time_gap_ids"][0, 1:]
        whole = of(processor, [0, 1, 3, 4], times)["time_gap_ids"][0]
        assert (short - whole).abs().max() <= 1
        assert short[[0, 1, 2, 4]].tolist() == whole[[0, 1, 2, 4]].tolist()  # gaps that were not touched


def test_an_unknown_time_stays_unknown(processor):
    short = shortened(processor, [0, None, 86_400, 90_000, 99_000], [2])
    assert short["time_gap_ids"][0, 1:].tolist()[3] == 0
