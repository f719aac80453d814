"""Checkpoints that were written once load with the code of today and recommend what they did."""

import json
from pathlib import Path

import pytest
from llm4rec.modeling_llm4rec import LLM4RecForCausalLM, LLM4RecProcessor

FOLDERS = sorted((Path(__file__).parent / "golden").glob("format-*"))


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def golden(request):
    return (
        LLM4RecForCausalLM.from_pretrained(request.param),
        LLM4RecProcessor.from_pretrained(request.param),
        json.loads((request.param / "expected.json").read_text()),
    )


def test_it_recommends_what_it_did_with_its_memory_and_without(golden):
    model, processor, expected = golden
    assert len(expected) == 8
    for case in expected:
        batch = processor(**case["request"], return_tensors="pt")
        out = model.recommend(**batch, k=5, retrieval=case["retrieval"])
        assert [item["item_id"] for item in processor.decode_items(out)[0]] == case["items"]
        assert out.scores[0].tolist() == pytest.approx(case["scores"], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_items_can_be_added_to_it(folder):
    model, processor = LLM4RecForCausalLM.from_pretrained(folder), LLM4RecProcessor.from_pretrained(folder)
    new = {"item_id": ["new"], "title": ["red stove"], "category": [["stove"]], "price": [30.0]}
    processor.add_items(new)
    model.add_items(processor.item_features(new))
    out = model.recommend(**processor(histories=[["i8"]], return_tensors="pt"), k=13)
    assert "new" in [item["item_id"] for item in processor.decode_items(out)[0]]


def test_its_memory_has_a_say(golden):
    with_memory, without = (
        [case["scores"] for case in golden[2] if case["retrieval"] is retrieval] for retrieval in (True, False)
    )
    assert with_memory != without


def test_the_golden_checkpoints_are_small():
    assert FOLDERS
    assert sum(file.stat().st_size for folder in FOLDERS for file in folder.rglob("*")) < 300_000
