"""Prediction of ratings: what it depends on, what it survives, what it refuses."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForRelevance, LLM4RecProcessor
from llm4rec.modeling_llm4rec.relevance import cumulative_logit_losses

TABLE = {
    "item_id": [f"i{index}" for index in range(8)],
    "kind": [["tent"], ["tent"], ["lamp"], ["lamp"], ["bag"], ["bag"], ["map"], ["map"]],
}
HISTORY = [[0, 2, 5], [1, 3, -1]]
RATINGS = [[5, 1, 0], [2, 4, 0]]
ATTRIBUTES = [[1, 3], [2, 0]]


def make_model(**relevance):
    processor = LLM4RecProcessor.from_catalog(TABLE, {"kind": "categorical"}, rating_levels=[1, 2, 3, 4, 5])
    decoder = {"model_type": "gpt_neox", "vocab_size": 260, "hidden_size": 8, "intermediate_size": 8}
    decoder |= {"num_hidden_layers": 1, "num_attention_heads": 1}
    settings = {"user_attributes": ["age", "town"], "user_attribute_sizes": [2, 3], **relevance}
    torch.manual_seed(0)
    config = LLM4RecConfig(**processor.model_config(), text_config=decoder, initializer_range=0.5, relevance=settings)
    model = LLM4RecForRelevance(config)
    model.set_items(processor.item_features())
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


def inputs(candidates=((1, 4, 6), (0, 5, 7)), history=HISTORY, ratings=RATINGS, attributes=ATTRIBUTES):
    return {
        "candidates": torch.tensor(candidates),
        "history_items": torch.tensor(history),
        "history_ratings": torch.tensor(ratings),
        "user_attributes": torch.tensor(attributes),
    }


def logits(model, **changes):
    with torch.no_grad():
        return model(**inputs(**changes)).logits


@pytest.mark.parametrize("members", [1, 2])
def test_a_saved_model_predicts_the_same(members, tmp_path):
    model = make_model(members=members)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(LLM4RecForRelevance.from_pretrained(tmp_path).eval()), logits(model))


def test_the_order_of_the_history_does_not_change_predictions(model):
    other = logits(model, history=[[5, 0, 2], [3, 1, -1]], ratings=[[0, 5, 1], [4, 2, 0]])
    torch.testing.assert_close(other, logits(model))


def test_padding_does_not_change_predictions(model):
    history = [[-1, 0, 2, 5, -1, -1], [1, -1, 3, -1, -1, -1]]
    ratings = [[0, 5, 1, 0, 3, 0], [2, 1, 4, 0, 0, 0]]
    torch.testing.assert_close(logits(model, history=history, ratings=ratings), logits(model))


def test_other_candidates_do_not_change_a_prediction(model):
    alone = logits(model, candidates=[[4], [5]])
    torch.testing.assert_close(alone[:, 0], logits(model)[:, 1])


def test_an_unknown_rating_still_says_what_was_chosen(model):
    without = logits(model, history=[[0, 2, -1], [1, 3, -1]])
    assert not torch.allclose(without[0], logits(model)[0])
    torch.testing.assert_close(without[1], logits(model)[1])


def test_a_user_without_a_history_gets_finite_predictions(model):
    found = logits(model, history=[[-1], [-1]], ratings=[[0], [0]], attributes=[[0, 0], [0, 0]])
    assert torch.isfinite(found).all()


def test_a_better_rating_is_never_more_likely_than_a_worse_one(model):
    assert (logits(model).diff(dim=-1) < 0).all()


def test_an_item_that_was_rated_before_moves_toward_that_rating():
    trusting, ignoring = make_model(known_rating_weight=0.9), make_model(known_rating_weight=0.0)
    candidates = [[0, 2, 4], [1, 3, 4]]
    moved, plain = logits(trusting, candidates=candidates), logits(ignoring, candidates=candidates)
    middle_odds = moved[0, :2] - 0.1 * plain[0, :2]  # nine tenths of what the ratings, 5 and 1, say
    assert (middle_odds[0] > 0).all()
    assert (middle_odds[1] < 0).all()
    torch.testing.assert_close(moved[:, 2], plain[:, 2])


def test_logits_are_the_mean_of_the_members():
    with torch.no_grad():
        output = make_model(members=2)(**inputs())
    torch.testing.assert_close(output.logits, output.member_logits.mean(0))
    assert not torch.allclose(output.member_logits[0], output.member_logits[1])


def test_the_loss_of_a_rating_is_that_of_its_yes_no_questions():
    found = cumulative_logit_losses(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([2]))
    yes, no = torch.sigmoid(torch.tensor(2.0)), torch.sigmoid(torch.tensor([0.0, -1.0]))
    torch.testing.assert_close(found, -(yes.log() + (1 - no).log().sum()).reshape(1) / 3)


def loss(model, weighting, weights, labels=((0, 3, 5), (0, 0, 1))):
    model.config.loss_weighting = weighting
    weights = None if weights is None else torch.tensor(weights)
    return model(**inputs(), labels=torch.tensor(labels), loss_weights=weights)


@pytest.mark.parametrize("weighting", ["ips", "snips"])
def test_weights_of_one_give_the_plain_loss(weighting):
    model = make_model()
    plain = loss(model, "none", None)
    torch.testing.assert_close(loss(model, weighting, [[1.0] * 3] * 2).loss, plain.loss)
    torch.testing.assert_close(plain.loss, plain.losses.sum() / 3)


def test_self_normalised_weights_do_not_notice_a_factor_and_others_do():
    model, weights = make_model(), [[9.0, 1.0, 2.0], [9.0, 9.0, 4.0]]
    tenfold = [[10 * value for value in row] for row in weights]
    torch.testing.assert_close(loss(model, "snips", tenfold).loss, loss(model, "snips", weights).loss)
    torch.testing.assert_close(loss(model, "ips", tenfold).loss, 10 * loss(model, "ips", weights).loss)


def test_probability_and_expected_rating_agree_with_the_distribution_of_ratings(model):
    found = model.predict_relevance(**inputs(), threshold=3)
    above = logits(model).sigmoid()
    chances = torch.cat([torch.ones(2, 3, 1), above], -1) - torch.cat([above, torch.zeros(2, 3, 1)], -1)
    torch.testing.assert_close(found.probability, chances[..., 3:].sum(-1))
    torch.testing.assert_close(found.expected_rating, chances @ torch.arange(1.0, 6.0))


def test_the_decoder_is_neither_run_nor_trained(model):
    assert not any(weight.requires_grad for weight in model.model.language_model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": ((1, 8), (0, 5))}, "candidates hold values from 0 to 8, expected 0 to 7"),
        ({"ratings": [[6, 1, 0], [2, 4, 0]]}, "history_ratings hold values from 0 to 6, expected 0 to 5"),
        ({"ratings": [[5, 1], [2, 4]]}, "a rating for each of its items"),
        ({"attributes": [[3, 0], [0, 0]]}, "user attribute 'age' hold values from 0 to 3, expected 0 to 2"),
        ({"attributes": [[1], [1]]}, r"expected \(2, 2\): one id for each of \['age', 'town'\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(model, changes, message):
    with pytest.raises(ValueError, match=message):
        model(**inputs(**changes))


def test_a_threshold_that_tells_nothing_is_refused(model):
    with pytest.raises(ValueError, match=r"from 1\.0 to below 5\.0"):
        model.predict_relevance(**inputs(), threshold=5)


def test_a_configuration_without_ratings_or_with_odd_members_is_refused():
    with pytest.raises(ValueError, match="at least two levels"):
        LLM4RecForRelevance(LLM4RecConfig(num_items=3, relevance={}))
    with pytest.raises(ValueError, match=r"relevance.members is 3, expected a divisor of the hidden size 8"):
        make_model(members=3)
    with pytest.raises(ValueError, match="did you mean 'members'"):
        LLM4RecConfig(relevance={"member": 2})
    with pytest.raises(StrictDataclassError, match="expected a size of at least 1 each"):
        LLM4RecConfig(relevance={"user_attributes": ["age"]})
