"""Write the golden checkpoint: `python tests/modeling_llm4rec/write_golden_checkpoint.py`.

Only for a new format version, into a folder of its own: the old ones stay, for they are what users have on their
disks.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import torch
from llm4rec.modeling_llm4rec import RetrievalConfig, RetrievalMemory
from llm4rec.modeling_llm4rec.text_encoding import HashingTextEncoder

HERE = Path(__file__).parent
REQUESTS = [
    {"histories": [["i0", "i4", "i2"]], "ratings": [[5, 3, None]], "timestamps": [[0, 60, 86_400]]},
    {"histories": [["i5"]]},
    {"histories": [["i1", "i3", "i8", "i9", "i10", "i11", "i6", "i7"]]},
    {"histories": [[]]},
]


def builders():
    spec = importlib.util.spec_from_file_location("conftest_of_tests", HERE.parent / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_model(tiny):
    """The processor of the tiny catalog, and a model with a memory that it listens to."""
    HashingTextEncoder.max_size = 1  # its matrix has 16,384 columns, and the repository no need of more rows
    processor = tiny.make_processor()
    model = tiny.make_model(processor)
    model.add_retrieval(RetrievalConfig(neighbours=4))
    width = model.config.text_config.hidden_size
    memory = RetrievalMemory(model.config.retrieval, model.num_items, width, model.content_vectors())
    memory.transitions.learn(torch.tensor([0, 1, 2, 0, 3, 5, 4]), torch.tensor([3, 2, 2]))
    memory.probe = {"input_ids": model.probe_sequences()}
    memory.probe["states"] = model._probe_states(memory.probe["input_ids"])
    model.attach_memory(memory)
    with torch.no_grad():
        model.model.retrieval_adapter.source_weight.fill_(1.0)
    return processor, model


def answers(processor, model):
    """Items and scores of the requests, with the memory and without."""
    found = []
    for request in REQUESTS:
        batch = processor(**request, return_tensors="pt")
        for retrieval in (True, False):
            out = model.recommend(**batch, k=5, retrieval=retrieval)
            found.append(
                {
                    "request": request,
                    "retrieval": retrieval,
                    "items": [item["item_id"] for item in processor.decode_items(out)[0]],
                    "scores": [round(score, 4) for score in out.scores[0].tolist()],
                }
            )
    return found


def main():
    processor, model = golden_model(builders())
    folder = HERE / "golden" / f"format-{model.config.format_version}"
    if folder.exists():
        sys.exit(f"{folder} is there already: readers have checkpoints like it. Raise FORMAT_VERSION for a new one.")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for module in folder.glob("*.py"):
        module.unlink()  # the code of today is what must read it
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    (folder / "expected.json").write_text(json.dumps(answers(processor, model), indent=1) + "\n")


if __name__ == "__main__":
    main()
