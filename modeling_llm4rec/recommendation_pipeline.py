"""The pipeline `recommendation`: histories as people write them in, items with their titles and reasons out.

`transformers.pipeline("recommendation", model=…)` makes one, by the name that `import llm4rec` registers, or by the
code that a checkpoint carries. It stands on the processor and on `recommend`, and adds titles in place of ids.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from transformers import Pipeline

from .explanation_messages import MESSAGES
from .explanation_text import STYLES
from .recommendation import RecommendOutput
from .title_search import TitleSearch

TASK = "recommendation"

EVENTS = ("history", "ratings", "timestamps")
"""What a request says of its user."""

OPTIONS = {
    "k": 10,
    "filter_seen": True,
    "allow": None,
    "deny": None,
    "exact": None,
    "retrieval": True,
    "popularity": None,
    "request_time": None,
    "explain": False,
    "style": "short",
    "language": "en",
}
"""What a request may ask for, with defaults; see [`RecommendationPipeline`]."""

BATCH_SIZE = 32
"""Requests of a list that are answered at a time, unless `batch_size` says otherwise."""

_ANSWERED_ALONE = ("history", "ratings", "timestamps", "allow", "deny", "request_time", "style", "language")


class RecommendationPipeline(Pipeline):
    """Recommends items for histories of item ids or titles.

    ```python
    from transformers import pipeline

    recommender = pipeline("recommendation", model=name)
    recommender({"history": ["B004756YJA", "a lip balm by its title"], "k": 10, "explain": True})
    ```

    A request is a history (a list of ids and titles in time order; empty: a new user), or a dict:

    - `history`; beside each of its items `ratings` and `timestamps` (unix seconds), where known;
    - `k`, `filter_seen`, `exact`, `retrieval`, `popularity`, `request_time`, `explain`: as of
      `LLM4RecForCausalLM.recommend`, for this user alone;
    - `allow`, `deny`: ids or titles of the only items that may be recommended, and of those that may not;
    - `style`, `language`: how explanations are told.

    The same options may be given when the pipeline is made or called; those of a request come first. A list of
    requests gives a list of answers; a data set, a generator or another iterable gives them one after the other. An
    answer is a list of dicts, best first: `item_id`, `title`, `score`, the other fields of the item and, if asked for,
    `explanation`: its record and, as `text`, its words.

    Args:
        model: a `LLM4RecForCausalLM`.
        processor: of the same checkpoint; loaded with the model where that is a name.

    Raises:
        ValueError: for a model that is no recommender, an unknown option or a value that it cannot have, an item that
            is not found (naming the nearest); of several requests the number of the first at fault is said.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not hasattr(self.model, "recommend") or not hasattr(self.processor, "decode_items"):
            raise ValueError(
                f"The task {TASK!r} needs a recommender and its processor, got {type(self.model).__name__} and "
                f"{type(self.processor).__name__}. Pass a folder or Hub id, or both from one checkpoint."
            )
        self.model.eval()

    @property
    def titles(self) -> TitleSearch:
        """Finds items of the catalog by what people write."""
        found = self.__dict__.get("_titles")
        if found is None or found.catalog is not self.processor.catalog:
            found = self._titles = TitleSearch(self.processor.catalog)
        return found

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer one request (a list of items), a list of requests (a list of answers) or a stream of them."""
        if isinstance(inputs, (str, bytes)) or (
            not isinstance(inputs, Iterable) and not hasattr(inputs, "__getitem__")
        ):
            raise _not_a_request(inputs)
        size = 1
        if not isinstance(inputs, Mapping):
            if isinstance(inputs, (list, tuple)):
                if not inputs:
                    return []
                several = any(isinstance(entry, (list, tuple, Mapping)) for entry in inputs)
                inputs = list(inputs) if several else {"history": list(inputs)}
                size = BATCH_SIZE
            else:
                size = BATCH_SIZE if hasattr(inputs, "__len__") else 1
                inputs = _one_by_one(inputs)
        if kwargs.get("batch_size") is None and self._batch_size is None:
            kwargs["batch_size"] = size
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return self._checked(options, OPTIONS), {}, {}

    def preprocess(self, request: Any, **options: Any) -> dict[str, Any]:
        """A request with all options, and ids in place of titles.

        Raises:
            ValueError: naming what is wrong with it.
        """
        if isinstance(request, (list, tuple)):
            request = {"history": request}
        if not isinstance(request, Mapping):
            raise _not_a_request(request)
        if request.get("history") is None:
            raise ValueError(
                "A request needs a `history`: a list of item ids or titles in time order, [] for a new user. "
                f"Got {', '.join(map(repr, request)) or 'nothing'}."
            )
        # A table fills what a row does not have with None.
        given = {name: value for name, value in request.items() if value is not None}
        return {**OPTIONS, **options, **self._checked(given, (*EVENTS, *OPTIONS))}

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[list[dict[str, Any]]]:
        """Answers in the order of the requests, `batch_size` of them at a time."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}, expected 1 or more.")
        return self._answers(inputs, batch_size, preprocess_params, forward_params, postprocess_params)

    def _answers(
        self, inputs: Iterable[Any], batch_size: int, read: dict[str, Any], run: dict[str, Any], write: dict[str, Any]
    ) -> Iterator[list[dict[str, Any]]]:
        waiting: list[dict[str, Any]] = []
        for number, entry in enumerate(inputs, 1):
            try:
                waiting.append(self.preprocess(entry, **read))
            except ValueError as error:
                raise ValueError(f"Request {number}: {error}") from error
            if len(waiting) == batch_size:
                yield from (self.postprocess(answer, **write) for answer in self.forward(waiting, **run))
                waiting = []
        if waiting:
            yield from (self.postprocess(answer, **write) for answer in self.forward(waiting, **run))

    def run_single(
        self, inputs: Any, preprocess_params: dict[str, Any], forward_params: dict, postprocess_params: dict
    ) -> list[dict[str, Any]]:
        """The answer to one request."""
        answers = self.forward([self.preprocess(inputs, **preprocess_params)], **forward_params)
        return self.postprocess(answers[0], **postprocess_params)

    def _forward(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers to requests, of those that ask for the same in one go."""
        if len(self.processor.catalog) != self.model.num_items:
            raise ValueError(
                f"The processor's catalog has {len(self.processor.catalog):,} items, the model has "
                f"{self.model.num_items:,}. Add new items to both: `processor.add_items`, then `model.add_items`."
            )
        alike: dict[tuple, list[int]] = {}
        for place, request in enumerate(requests):
            asked = [request[name] for name in OPTIONS if name not in _ANSWERED_ALONE]
            given = [request[name] is None for name in ("allow", "deny", "request_time")]
            alike.setdefault((*asked, *given), []).append(place)
        answers: list[dict[str, Any]] = [{}] * len(requests)
        for places in alike.values():
            together = [requests[place] for place in places]
            out = self._recommend(together)
            for row, (place, request) in enumerate(zip(places, together, strict=True)):
                answers[place] = {"request": request, "output": _row(out, row)}
        return answers

    def _recommend(self, requests: list[dict[str, Any]]) -> RecommendOutput:
        """One call of `recommend` for requests that differ in what `_ANSWERED_ALONE` names only."""
        first, beside = requests[0], {}
        for name in ("ratings", "timestamps"):
            if any(request.get(name) is not None for request in requests):
                beside[name] = [request.get(name) or [None] * len(request["history"]) for request in requests]
        histories = [request["history"] for request in requests]
        batch = self.processor(histories=histories, return_tensors="pt", **beside).to(self.device)
        masks = {
            name: torch.stack([self.processor.item_mask(request[name]) for request in requests])
            for name in ("allow", "deny")
            if first[name] is not None
        }
        times = [request["request_time"] for request in requests]
        return self.model.recommend(
            **batch,
            **masks,
            **{name: first[name] for name in ("k", "filter_seen", "exact", "retrieval", "popularity", "explain")},
            request_time=None if times[0] is None else torch.tensor(times, device=self.device),
        )

    def postprocess(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        """Items for people to read."""
        request, output = answer["request"], answer["output"]
        items = self.processor.decode_items(output)[0]
        if request["explain"]:
            records = self.processor.decode_explanations(output)
            texts = self.processor.render_explanations(records, request["style"], request["language"])[0]
            for item, record, text in zip(items, records[0], texts, strict=True):
                item["explanation"] = {"text": text, **record}
        return items

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model and processor, from which the pipeline is made again."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)

    def _checked(self, values: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
        """Parts of a request, each of a kind that it can have, and items by their ids."""
        checked = {}
        for name, value in values.items():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
                meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
                raise ValueError(f"A recommendation got {name!r}; {meant}")
            if value is None and name in OPTIONS:
                checked[name] = OPTIONS[name]
            elif name in ("history", "allow", "deny"):
                checked[name] = self._item_ids(name, value)
            else:
                checked[name] = value
                if not _may_be(name, value):
                    raise ValueError(f"`{name}` is {value!r}, expected {_EXPECTED[name]}.")
        for name in ("ratings", "timestamps"):
            if name in checked and len(checked[name]) != len(checked["history"]):
                raise ValueError(
                    f"`{name}` has {len(checked[name])} values for a history of {len(checked['history'])} items; "
                    "use None where one is not known."
                )
        return checked

    def _item_ids(self, name: str, values: Any) -> list[str]:
        """Ids of items that are named by id or title."""
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise ValueError(f"`{name}` is {values!r}, expected a list of item ids or titles.")
        found = []
        for value in values:
            if isinstance(value, (list, tuple, set, Mapping)):
                raise ValueError(f"`{name}` holds {value!r}, expected item ids or titles.")
            found.append(self.processor.catalog.item_ids[self.titles.resolve(value)])
        return found


_EXPECTED = {
    "k": "a whole number, at least 1",
    "popularity": "a finite number",
    "request_time": "unix seconds, a whole number",
    "style": f"one of {', '.join(STYLES)}",
    "language": f"one of {', '.join(MESSAGES)}",
    "exact": "true, false or none",
    **dict.fromkeys(("filter_seen", "retrieval", "explain"), "true or false"),
    "ratings": "a list of numbers, None where one is not known",
    "timestamps": "a list of unix seconds, None where one is not known",
}


def _may_be(name: str, value: Any) -> bool:
    """Whether an option can have a value."""
    if name in ("filter_seen", "retrieval", "explain", "exact"):
        return isinstance(value, bool)
    if name in ("style", "language"):
        return value in (STYLES if name == "style" else tuple(MESSAGES))
    if name in ("ratings", "timestamps"):
        return isinstance(value, (list, tuple)) and all(entry is None or _is_number(entry) for entry in value)
    if not _is_number(value) or not math.isfinite(value):
        return False
    return name == "popularity" or (isinstance(value, int) and (name != "k" or value >= 1))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _not_a_request(got: Any) -> ValueError:
    return ValueError(
        f"Got {got!r:.80} of type {type(got).__name__}, expected a request: a list of item ids or titles, or a dict "
        "such as {'history': ['id-1', 'a title'], 'k': 10}."
    )


def _one_by_one(inputs: Any) -> Iterator[Any]:
    """Rows of a data set or iterable."""
    if hasattr(inputs, "__iter__"):
        yield from inputs
    else:
        yield from (inputs[row] for row in range(len(inputs)))


def _row(out: RecommendOutput, row: int) -> RecommendOutput:
    """What was recommended to one of the users, away from the device."""
    items, scores = out.items[row : row + 1].cpu(), out.scores[row : row + 1].cpu()
    explanations = None if out.explanations is None else out.explanations[row : row + 1]
    return replace(out, items=items, scores=scores, retrieved=None, explanations=explanations)


__all__ = ["TASK", "RecommendationPipeline"]
