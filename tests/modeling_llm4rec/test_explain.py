"""Explanations are measurements: every effect is what scoring again, by other means, gives too."""

import copy

import pytest
import torch
from llm4rec.modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, RetrievalConfig, RetrievalMemory
from llm4rec.modeling_llm4rec.configuration_llm4rec import PopularityConfig

HISTORIES = [["i0", "i4", "i2"], ["i5", "i7", "i5"], []]


def inputs(processor, histories=HISTORIES, **kwargs):
    return processor(histories=histories, return_tensors="pt", **kwargs)


def log_probability(model, batch, item, seen, **kwargs):
    """(ln p, rank) of one item for the first user, from the scores of the whole catalog."""
    scores = model.score_items(**batch, **kwargs)[0].double()
    left = [i for i in range(len(scores)) if i == item or i not in seen]
    return (scores[item] - scores[left].logsumexp(0)).item(), 1 + int((scores[left] > scores[item]).sum())


def pieces(explanation, kind):
    return [piece for piece in explanation.evidence if piece.kind == kind]


def test_recommend_explains_each_of_its_items_in_order(model, processor):
    out = model.recommend(**inputs(processor), k=3, explain=True)
    assert [[why.item for why in user] for user in out.explanations] == out.items.tolist()
    assert [[why.rank for why in user] for user in out.explanations] == [[1, 2, 3]] * 3
    given = torch.tensor([[why.score for why in user] for user in out.explanations])
    torch.testing.assert_close(given, out.scores, atol=1e-5, rtol=0)
    assert model.recommend(**inputs(processor), k=3).explanations is None


def test_effects_of_the_history_are_those_of_histories_without_the_item(model, processor):
    history = ["i5", "i7", "i5", "i9"]
    seen = processor.catalog.indices(history)
    batch = inputs(processor, [history], ratings=[[5, 1, 2, 3]], timestamps=[[7] * 4])
    for why in model.explain(**batch, items=model.recommend(**batch, k=4).items)[0]:
        base, rank = log_probability(model, batch, why.item, seen)
        assert (why.log_probability, why.rank) == (pytest.approx(base, abs=1e-5), rank)
        found = pieces(why, "history")
        assert {piece.item for piece in found} == set(seen)
        for piece in found:
            keep = [place for place in range(4) if seen[place] != piece.item]
            pick = lambda values, keep=keep: [[values[place] for place in keep]]  # noqa: E731
            short = inputs(processor, pick(history), ratings=pick([5, 1, 2, 3]), timestamps=pick([7] * 4))
            without, rank_without = log_probability(model, short, why.item, seen)
            assert piece.effect == pytest.approx(base - without, abs=1e-5)
            assert piece.rank_without == rank_without
        without, rank_without = log_probability(model, inputs(processor, [[]]), why.item, seen)
        assert why.history_effect == pytest.approx(base - without, abs=1e-5)
        assert why.rank_without_history == rank_without


def without_feature(model, item, index, value=None):
    """A model that knows less of one item."""
    model = copy.deepcopy(model)
    embedding = model.model.item_embedding
    if value is not None:
        row = embedding.stored_feature(index)[item]
        row[row == value] = 0
    if value is None or not row.any():
        embedding.present[item, index] = False
    return model


def test_effects_of_modalities_and_shared_values_are_those_of_an_item_without_them(model, processor):
    history = ["i0", "i3"]
    seen = processor.catalog.indices(history)
    batch = inputs(processor, [history])
    item = processor.catalog.index("i7")  # a bag for sleeping, as i3
    why = model.explain(**batch, items=torch.tensor([[item]]))[0][0]
    assert len(pieces(why, "attribute")) == 2
    assert all(piece.shared_with == (3,) for piece in pieces(why, "attribute"))
    assert len(pieces(why, "modality")) == 5
    for piece in pieces(why, "attribute") + pieces(why, "modality"):
        changed = without_feature(model, item, piece.modality, piece.value)
        # The item's vector stands among the candidates alone, not in the history.
        without, rank = log_probability(changed, batch, item, seen)
        assert piece.effect == pytest.approx(why.log_probability - without, abs=1e-5)
        assert piece.rank_without == rank
        assert 0 <= piece.alpha <= 1


def test_a_reason_that_changes_nothing_has_no_effect(new_model, processor):
    model = new_model(processor)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()  # the state sees the last token alone
    why = model.explain(**inputs(processor, [["i0", "i4", "i2"]]), items=torch.tensor([[9]]))[0][0]
    effects = {piece.item: piece.effect for piece in pieces(why, "history")}
    assert abs(effects[0]) < 1e-5
    assert abs(effects[4]) < 1e-5
    assert abs(effects[2]) > 1e-2


def test_popularity_is_evidence_where_serving_adds_it(new_model, processor):
    model = new_model(processor)
    counts = torch.arange(12.0) - 5.5
    model.add_popularity_prior(PopularityConfig(serving_strength=0.0), counts[None], torch.zeros(1))
    batch = inputs(processor)
    assert not pieces(model.recommend(**batch, explain=True).explanations[0][0], "popularity")
    out = model.recommend(**batch, k=12, popularity=0.5, explain=True)
    plain = {why.item: why for why in model.explain(**batch, items=out.items)[0]}
    for why in out.explanations[0]:
        (piece,) = pieces(why, "popularity")
        assert piece.rank_without == plain[why.item].rank
        assert piece.effect == pytest.approx(why.log_probability - plain[why.item].log_probability, abs=1e-5)
        assert piece.log_popularity == counts[why.item]


def test_an_item_that_cannot_be_recommended_says_why_not(model, processor):
    batch = inputs(processor, [["i0", "i4"]])
    items = torch.tensor([[0, 5, 6, 7]])
    deny, allow = processor.item_mask(["i5"]), ~processor.item_mask(["i6"])
    why = model.explain(**batch, items=items, deny=deny, allow=allow)[0]
    assert [one.excluded for one in why] == ["seen", "denied", "not allowed", None]
    assert model.explain(**batch, items=items, filter_seen=False)[0][0].excluded is None


def test_users_of_a_batch_are_explained_as_if_alone(model, processor):
    batch = inputs(processor)
    out = model.recommend(**batch, k=2, explain=True)
    for user, history in enumerate(HISTORIES):
        alone = model.recommend(**inputs(processor, [history]), k=2, explain=True).explanations[0]
        for one, other in zip(out.explanations[user], alone, strict=True):
            assert one.item == other.item
            effects = [{(p.kind, p.item, p.modality, p.value): p.effect for p in why.evidence} for why in (one, other)]
            assert effects[0] == pytest.approx(effects[1], abs=1e-4)


def test_padding_of_items_leaves_the_others_as_they_are(model, processor):
    batch = inputs(processor, [["i0"]])
    (alone,) = model.explain(**batch, items=torch.tensor([[3]]))[0]
    (padded,) = model.explain(**batch, items=torch.tensor([[-1, 3]]))[0]
    assert (padded.item, padded.rank) == (alone.item, alone.rank)
    # A place without an item must not put item 0, which the user had, among the candidates.
    assert padded.log_probability == pytest.approx(alone.log_probability, abs=1e-5)
    assert [p.effect for p in padded.evidence] == pytest.approx([p.effect for p in alone.evidence], abs=1e-5)


def test_of_a_long_history_what_matters_by_gradient_is_measured(model, processor):
    batch = inputs(processor, [["i0", "i4", "i2", "i5", "i8", "i9"]])
    items = model.recommend(**batch, k=2).items
    whole = model.explain(**batch, items=items)[0][0]
    few = model.explain(**batch, items=items, max_removals=2)[0][0]
    assert (few.history_items, few.measured_items) == (6, 2)
    measured = {piece.item: piece.effect for piece in pieces(few, "history")}
    exact = {piece.item: piece.effect for piece in pieces(whole, "history")}
    assert measured == pytest.approx({item: exact[item] for item in measured}, abs=1e-5)
    none = model.explain(**batch, items=items, max_removals=0)[0][0]
    assert not pieces(none, "history")


def test_a_model_that_reads_ids_alone_explains_by_the_history(processor):
    config = LLM4RecConfig(num_items=12, modalities=[{"name": "id", "kind": "id"}])
    model = LLM4RecForCausalLM(config).eval()
    out = model.recommend(**inputs(processor, [["i0", "i4"]]), k=2, explain=True)
    assert {piece.kind for why in out.explanations[0] for piece in why.evidence} == {"history"}


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (torch.tensor([1, 2]), "expected int64 of shape"),
        (torch.tensor([[12.0]]), "expected int64 of shape"),
        (torch.tensor([[12]]), "got item 12, expected indices below 12"),
        (torch.tensor([[-2]]), "got item -2"),
        (torch.zeros(1, 0, dtype=torch.long), "at least one item"),
    ],
)
def test_wrong_items_are_refused(model, processor, items, said):
    with pytest.raises(ValueError, match=said):
        model.explain(**inputs(processor, [["i0"]]), items=items)


def test_the_model_stays_in_the_mode_it_was_in(new_model, processor):
    model = new_model(processor).train()
    model.recommend(**inputs(processor), k=1, explain=True)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_the_memory_found_is_evidence(new_model, processor):
    model = new_model(processor)
    model.add_retrieval(RetrievalConfig(sources=["transitions"], neighbours=4))
    memory = RetrievalMemory(model.config.retrieval, model.num_items, model.config.text_config.hidden_size)
    memory.transitions.learn(torch.tensor([0, 7]), torch.tensor([2]))
    memory.probe = {"input_ids": model.probe_sequences()}
    memory.probe["states"] = model._probe_states(memory.probe["input_ids"])
    model.attach_memory(memory)
    with torch.no_grad():
        model.model.retrieval_adapter.source_weight.fill_(1.0)
        model.model.retrieval_adapter.gate[-1].weight.zero_()
        model.model.retrieval_adapter.gate[-1].bias.zero_()
        model.model.retrieval_adapter.temperature.zero_()
        model.model.retrieval_adapter.attention_gate.zero_()
    batch = inputs(processor, [["i0"]])
    found, other = model.explain(**batch, items=torch.tensor([[7, 8]]))[0]
    (piece,) = pieces(found, "retrieved")
    without, rank = log_probability(model, batch, 7, [0], retrieval=False)
    assert piece.effect == pytest.approx(found.log_probability - without, abs=1e-5)
    assert (piece.rank_without, piece.source) == (rank, "transitions")
    assert piece.effect > 0.1
    assert not pieces(other, "retrieved")
    assert not pieces(model.explain(**batch, items=torch.tensor([[7]]), retrieval=False)[0][0], "retrieved")


def test_a_value_comes_before_the_modality_that_holds_nothing_else(model, processor):
    batch = inputs(processor, [["i4", "i5"]])
    (why,) = model.explain(**batch, items=torch.tensor([[6]]))[0]  # a lamp, as both are
    category = [piece for piece in why.evidence if piece.modality == 2]
    assert [piece.kind for piece in category] == ["attribute", "modality"]
    assert category[0].effect == pytest.approx(category[1].effect, abs=1e-5)
