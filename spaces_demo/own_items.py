"""Own items: a visitor's additions to the catalog, on top of the shared model and out of sight of everybody else.

The weights are shared; the item features, the catalog and what of the memory follows the catalog are the visitor's
own, so that `add_items` of model and processor work as anywhere else.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import Any

from ..modeling_llm4rec import Catalog, LLM4RecForCausalLM
from ..training.snapshot import Snapshot

MOST_VIEWS = 32
"""Extended models that are kept at a time; others are made again, in milliseconds for small catalogs."""


def with_items(shared: Snapshot, rows: list[dict[str, Any]]) -> Snapshot:
    """The shared model and some more items; the shared one stays as it is.

    Args:
        rows: new items, in the form of the catalog.

    Raises:
        ValueError: if an item has nothing that the model can read, or an id that the catalog has.
    """
    processor = copy.copy(shared.processor)
    processor._catalog = Catalog(shared.processor.catalog.columns)
    model = _view(shared.model)
    processor.add_items(rows)
    model.add_items(processor.item_features(rows))
    return Snapshot(model, processor, shared.version)


def _view(model: LLM4RecForCausalLM) -> LLM4RecForCausalLM:
    """A model with the same tensors in modules of its own: what is appended to it stays with it."""
    module = model.model
    same = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for kept in (module._table, module._index, model.memory):
        if kept is not None:
            same[id(kept)] = kept
    view = copy.deepcopy(model, same)
    if view.memory is not None:
        # Appending replaces tensors of the memory, all but the spare rows of a vector memory's stores.
        memory = view.memory = copy.copy(view.memory)
        memory.transitions = copy.copy(memory.transitions)
        memory.metadata = copy.copy(memory.metadata)
        memory.metadata._stores, memory.metadata.index = {}, None
    view.model._index = None
    return view


class OwnItems:
    """Extended models of the latest visitors who added items."""

    def __init__(self) -> None:
        self._views: OrderedDict[tuple, Snapshot] = OrderedDict()
        self._lock = threading.Lock()

    def snapshot(self, shared: Snapshot, key: str, rows: list[dict[str, Any]]) -> Snapshot:
        """The shared model, or the visitor's own where there are rows.

        Args:
            key: of the visitor.
        """
        if not rows:
            return shared
        name = (shared.version, id(shared.model), key, len(rows))
        with self._lock:
            if name in self._views:
                self._views.move_to_end(name)
                return self._views[name]
        made = with_items(shared, rows)
        self.forget(key)
        with self._lock:
            self._views[name] = made
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
        return made

    def forget(self, key: str) -> None:
        """Let go of a visitor's model."""
        with self._lock:
            for name in [known for known in self._views if known[2] == key]:
                del self._views[name]
