"""A recommender as its current version has it: the trained model, the version's adapter added in, its memory."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

from ...modeling_llm4rec import LLM4RecForCausalLM, RetrievalMemory
from ...modeling_llm4rec.memory import FOLDER as MEMORY
from ...modeling_llm4rec.recommendation_pipeline import RecommendationPipeline
from ..adapters import merged
from ..data.prepared import new_folder
from ..load import RECIPE_FILE, load_recommender
from ..snapshot import Snapshot
from .new_items import add_items, items_of
from .versions import BASE, VersionStore

ADAPTER = "adapter"


def load_version(folder: str | Path, version: str | None = None, retrieval: bool = True) -> Snapshot:
    """A version of a model that learns online.

    Args:
        folder: of the model.
        version: by default the current one.
        retrieval: load its memory, if it has one.

    Raises:
        VersionError: if the version is not there or damaged.
        FileNotFoundError, ValueError: as :func:`~llm4rec.training.load.load_recommender`.
    """
    store = VersionStore(folder)
    name = store.current()[0].name if version is None else version
    if name == BASE:
        return Snapshot(*load_recommender(folder, retrieval), BASE)
    store.check(name)
    path = store.path(name)
    has_memory = (path / MEMORY).is_dir()
    model, processor = load_recommender(folder, retrieval and not has_memory)
    add_items(model, processor, items_of(path))
    model = merged(with_adapter(model, path / ADAPTER)).eval()
    if has_memory and retrieval:
        attach_version_memory(model, path)
    return Snapshot(model, processor, name)


def with_adapter(model: LLM4RecForCausalLM, folder: Path) -> object:
    """The model wrapped by peft with a version's adapter."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder))


def attach_version_memory(model: LLM4RecForCausalLM, folder: Path) -> None:
    """Give a model the memory of a version."""

    def find(file: str) -> str | None:
        path = folder / MEMORY / file
        return str(path) if path.is_file() else None

    model.attach_memory(RetrievalMemory.load(model.config.retrieval, find))


def export_version(folder: str | Path, output: str | Path, version: str | None = None) -> str:
    """Write a version as a model folder that stands alone; its name.

    Raises:
        FileExistsError: if `output` is there already.
        VersionError: if the version is not there or damaged.
    """
    snapshot = load_version(folder, version)
    with new_folder(output) as partial:
        snapshot.model.save_pretrained(partial)
        snapshot.processor.save_pretrained(partial)
        recipe = Path(folder) / RECIPE_FILE
        if recipe.is_file():
            shutil.copy(recipe, partial)
    return snapshot.version


class LiveRecommender:
    """What a server asks: always the current version, swapped between two requests, never half of one.

    Args:
        folder: of the model, which a learner may be publishing to, in this or another process.
        retrieval: ask the memory.

    Attributes:
        problem: why the newest version is not served; `None` if it is.
    """

    def __init__(self, folder: str | Path, retrieval: bool = True):
        self.folder, self.retrieval = Path(folder), retrieval
        self._store = VersionStore(folder)
        self._loading = threading.Lock()
        self.problem: str | None = None
        self._stamp = self._store.stamp()
        self._snapshot = load_version(folder, retrieval=retrieval)
        self._pipeline: tuple[Snapshot, dict[str, Any], RecommendationPipeline] | None = None

    def current(self) -> Snapshot:
        """The newest version; one thread loads it while the others go on with the one before.

        A version that cannot be loaded is passed over: the last good one serves on.
        """
        stamp = self._store.stamp()
        if stamp != self._stamp and self._loading.acquire(blocking=False):
            try:
                self._snapshot = load_version(self.folder, retrieval=self.retrieval)
                self.problem = None
            except (ValueError, OSError) as error:
                self.problem = str(error)
            finally:
                self._stamp = stamp
                self._loading.release()
        return self._snapshot

    def pipeline(self, **options: Any) -> RecommendationPipeline:
        """`pipeline("recommendation")` of the current version: ask for it at every request, it is made once a version.

        Args:
            options: of the pipeline, such as `k=5`.
        """
        snapshot, made = self.current(), self._pipeline
        if made is None or made[0] is not snapshot or made[1] != options:
            recommender = RecommendationPipeline(model=snapshot.model, processor=snapshot.processor, **options)
            made = self._pipeline = (snapshot, options, recommender)
        return made[2]


__all__ = ["LiveRecommender", "export_version", "load_version"]
