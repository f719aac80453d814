"""Memory: what a recommender looks up while it recommends, beside its weights.

`LLM4RecForCausalLM` asks it with a batch of histories and their states; the retrieval adapter reads what it finds.
Built by `training/retrieval`, extended at any moment, saved in the folder `memory/` of a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from .configuration_llm4rec import RetrievalConfig
from .parquet_tables import read_arrays, write_table
from .retrieved_context import RetrievedContext
from .transition_memory import TransitionMemory
from .vector_index import VectorIndex
from .vector_memory import VectorMemory

FOLDER = "memory"
MANIFEST = "memory.json"
FORMAT = 1
UNFINISHED = ".part"

PROBE_LIKENESS = 0.98
"""Cosine at which the states of the probe histories count as those of the same encoder."""


class DamagedMemoryError(ValueError):
    """A file of a saved memory is missing, damaged or of another memory; the message names it and the way around."""


class RetrievalMemory:
    """Entries of up to three sources, and how to find them.

    - `transitions`: found by the items of the history.
    - `behaviour`: found by the user's state; an entry says what another user chose in a state like it.
    - `metadata`: found by what is written about the items of the history; items of the history are left out.

    Args:
        config: which sources, and how relevance is computed.
        num_items: size of the catalog.
        state_width: width of user states.
        content: (items, width) content vectors of the catalog, rows of zeros where nothing is known; `None`: no
            metadata.

    Attributes:
        sources: names of the sources, in the order of [`RetrievedContext`].
        probe: token sequences and the states that the encoder gave them, see `check_encoder`.
    """

    def __init__(self, config: RetrievalConfig, num_items: int, state_width: int, content: torch.Tensor | None = None):
        self.config = config
        self.transitions = TransitionMemory(num_items, config.window)
        self.behaviour = VectorMemory(state_width, config.temperature)
        self.metadata = VectorMemory(0 if content is None else content.shape[1], config.temperature)
        self.probe: dict[str, torch.Tensor] = {}
        self.facts: dict[str, Any] = {}
        self._checked: Any = None
        if content is not None:
            self.add_content(content)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources."""
        return tuple(self.config.sources)

    @property
    def num_items(self) -> int:
        """Size of the catalog that it knows."""
        return self.transitions.num_items

    def __len__(self) -> int:
        """Entries of all sources."""
        return sum(self.sizes().values())

    def sizes(self) -> dict[str, int]:
        """Entries of every source."""
        return {name: len(getattr(self, name)) for name in self.sources}

    def add_content(self, content: torch.Tensor) -> None:
        """Content vectors (n, width) of the next n items of the catalog."""
        items = torch.arange(len(self.metadata.keys), len(self.metadata.keys) + len(content))
        known = content.abs().sum(1) > 0
        self.metadata.add(content, torch.where(known, items, -1))
        self.transitions.grow(len(self.metadata.keys))

    def add_event(
        self,
        history: torch.Tensor,
        state: torch.Tensor | None,
        item: int,
        time: int = -1,
        credibility: float = 1.0,
        owner: int = -1,
    ) -> None:
        """One event, found from now on.

        Args:
            history: (n,) items before it, the latest last; -1 is padding.
            state: (width,) the user's state before it; `None` where the memory keeps no behaviour.
            item: what was chosen.
            time: unix seconds; -1: unknown.
            credibility: in (0, 1].
            owner: user index; -1: nobody's.

        Raises:
            ValueError: if the item is not of the catalog, or the credibility is out of range.
        """
        states = None if state is None else state[None]
        self.add_events(
            [history], states, torch.tensor([item]), *(torch.tensor([value]) for value in (time, credibility, owner))
        )

    def add_events(
        self,
        histories: list[torch.Tensor],
        states: torch.Tensor | None,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        credibility: torch.Tensor | None = None,
        owners: torch.Tensor | None = None,
    ) -> None:
        """Several events, found from now on, or after an error none of them.

        Args:
            histories: of each event the items before it, the latest last; -1 is padding.
            states: (n, width), `None` where the memory keeps no behaviour.
            items, times, credibility, owners: (n,) as of `add_event`.

        Raises:
            ValueError: if an item is not of the catalog, or a credibility is out of range.
        """
        times = torch.full_like(items, -1) if times is None else times
        owners = torch.full_like(items, -1) if owners is None else owners
        credibility = torch.ones(len(items)) if credibility is None else credibility
        wrong = (items < 0) | (items >= self.num_items)
        if wrong.any():
            raise ValueError(
                f"Item {int(items[wrong][0])} is not of this catalog of {self.num_items} items; call `add_items` "
                "first."
            )
        doubtful = ~((credibility > 0) & (credibility <= 1))
        if doubtful.any():
            raise ValueError(f"Credibility is {float(credibility[doubtful][0])}, expected a number in (0, 1].")
        known = zip(histories, items.tolist(), times.tolist(), credibility.tolist(), strict=True)
        for history, item, time, trust in known:
            self.transitions.add(history, item, time, trust)
        if "behaviour" in self.sources and states is not None:
            self.behaviour.add(states, items, times, credibility, owners)

    def forget_owner(self, owner: int, events: torch.Tensor, credibility: torch.Tensor | None = None) -> None:
        """Take a user's events out of the memory again, as after a request for deletion.

        Args:
            owner: user index.
            events: (n,) all items that the memory learned from this user, in their order.
            credibility: (n,) of the events, as the memory learned it; by default 1.
        """
        if owner >= 0:
            self.behaviour.forget((self.behaviour.owners == owner).nonzero().flatten())
        for position in range(len(events)):
            trust = 1.0 if credibility is None else float(credibility[position])
            self.transitions.add(events[:position], int(events[position]), credibility=trust, sign=-1.0)
        self.transitions.columns()  # merged, so that what is taken out and what was there meet in one entry

    def forget_items(self, items: torch.Tensor) -> None:
        """Delete every entry that speaks for these items."""
        self.transitions.forget_items(items)
        for memory in (self.behaviour, self.metadata):
            memory.forget(torch.isin(memory.items, items).nonzero().flatten())

    def retrieve(
        self,
        history: torch.Tensor,
        states: torch.Tensor,
        *,
        now: torch.Tensor | None = None,
        before: torch.Tensor | None = None,
        owners: torch.Tensor | None = None,
        own_events: torch.Tensor | None = None,
    ) -> RetrievedContext:
        """What the memory holds for a batch of users.

        Args:
            history: (batch, n) items of the history, latest first, -1 for padding.
            states: (batch, width) user states.
            now: (batch,) unix seconds of the request, for the time decay; -1: unknown.
            before: (batch,) unix seconds: nothing of that moment or later is found.
            owners: (batch,) user indices whose own behaviour is not found.
            own_events: (batch, m) all events of each user that the memory has learned, in their order, -1 for
                padding: their own transitions are taken out.
        """
        config = self.config
        device = states.device
        history, states = history.cpu(), states.detach().cpu()
        k = config.neighbours
        parts = {}
        common = {
            "now": None if now is None else now.cpu(),
            "decay_rate": config.time_decay,
            "credibility_weight": config.credibility_weight,
            "before": before,
        }
        recent = history[:, : config.history]
        for source in self.sources:
            if source == "transitions":
                parts[source] = self.transitions.search(recent, k, config.recency, own_events=own_events, **common)
            elif source == "behaviour":
                parts[source] = self.behaviour.search(
                    states, k, max(k, config.entries), without_owners=owners, **common
                )
            else:
                without_time = common | {"now": None, "before": None}  # a description has no time
                parts[source] = self.metadata.search(
                    self._content_query(recent), k, k + history.shape[1], without_items=history, **without_time
                )
        return RetrievedContext.of(parts).to(device)

    def _content_query(self, history: torch.Tensor) -> torch.Tensor:
        """Mean content of the history (batch, n), newer events weighing more."""
        keys = self.metadata.keys
        known = (history >= 0) & (history < len(keys))
        weights = self.config.recency ** torch.arange(history.shape[1], dtype=torch.float32) * known
        if not len(keys):
            return torch.zeros(len(history), self.metadata.width)
        return torch.bmm(weights.unsqueeze(1), keys[history.clamp(0, len(keys) - 1)].float()).squeeze(1)

    def check_encoder(self, states_of: Any, version: Any) -> None:
        """Compare the states that the encoder gives the probe histories now with those of the time of building.

        Args:
            states_of: from `probe["input_ids"]` to states (n, width).
            version: of the encoder's weights; nothing is computed while it stays the same.

        Raises:
            ValueError: if the encoder has changed: the keys would speak of states that no user is in.
        """
        if self._checked == version or not self.probe:
            return
        states = states_of(self.probe["input_ids"])
        if states.shape != self.probe["states"].shape:
            likeness = 0.0
        else:
            then = self.probe["states"].to(states.device)
            likeness = float(torch.nn.functional.cosine_similarity(states.float(), then.float()).min())
        if not likeness >= PROBE_LIKENESS:
            raise ValueError(
                f"The memory was built with other weights (its probe states have cosine {likeness:.2f} with today's, "
                f"expected at least {PROBE_LIKENESS}). Build it again with `training.retrieval.build_memory`, or load "
                "the model without it: `from_pretrained(…, retrieval=False)`."
            )
        self._checked = version

    def save(self, folder: str | Path) -> None:
        """Write `memory/` in a checkpoint's folder: entries as Parquet, keys as safetensors, indexes by FAISS.

        Every file is written beside its place and moved there when it is whole: the old ones may be mapped into
        memory, by this process too.
        """
        from safetensors.torch import save_file

        folder = Path(folder) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        columns = self.transitions.columns()
        tables = {"transitions.parquet": {name: values.numpy() for name, values in columns.items()}}
        tensors = {"counts": self.transitions.counts, **{f"probe_{name}": part for name, part in self.probe.items()}}
        kinds = {}
        written = ["transitions.parquet", "keys.safetensors"]
        for name in ("behaviour", "metadata"):
            memory = getattr(self, name)
            tables[f"{name}.parquet"] = {
                "item": memory.items.numpy(),
                "time": memory.times.numpy(),
                "credibility": memory.credibility.numpy(),
                "owner": memory.owners.numpy(),
            }
            tensors[f"{name}_keys"] = memory.keys
            written.append(f"{name}.parquet")
            if len(memory.keys) and name in self.sources:
                kinds[name] = memory.save_index(folder / f"{name}.faiss{UNFINISHED}")
                if kinds[name] != "exact":
                    written.append(f"{name}.faiss")
        for file, table in tables.items():
            write_table(table, folder / f"{file}{UNFINISHED}")
        contiguous = {name: values.contiguous() for name, values in tensors.items()}
        save_file(contiguous, folder / f"keys.safetensors{UNFINISHED}")
        for file in written:
            os.replace(folder / f"{file}{UNFINISHED}", folder / file)
        manifest = {
            "format": FORMAT,
            "num_items": self.num_items,
            "index": kinds,
            "sizes": self.sizes(),
            "facts": self.facts,
            "files": {file: {"bytes": (folder / file).stat().st_size, "sha256": file_sha256(folder / file)}
                      for file in written},
        }  # fmt: skip
        unfinished = folder / f"{MANIFEST}{UNFINISHED}"
        unfinished.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        os.replace(unfinished, folder / MANIFEST)
        for left in folder.glob("*.faiss"):
            if left.name not in written:
                left.unlink()

    @classmethod
    def load(cls, config: RetrievalConfig, find: Any) -> RetrievalMemory:
        """Read what `save` wrote; keys and inverted lists are mapped into memory, not copied.

        Args:
            config: of the checkpoint.
            find: from a file's name to its path, `None` where there is none.

        Raises:
            DamagedMemoryError: naming the file that is missing, damaged, or of another memory.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = find(MANIFEST)
        if path is None:
            raise DamagedMemoryError(f"{FOLDER}/{MANIFEST} is missing. {_ADVICE}")
        try:
            manifest = json.loads(Path(path).read_text(encoding="utf-8"))
            files, num_items, kinds = manifest["files"], int(manifest["num_items"]), manifest["index"]
            if manifest["format"] > FORMAT:
                raise ValueError(f"it has format {manifest['format']}, this version reads up to {FORMAT}")
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedMemoryError(f"{path} is damaged ({error}). {_ADVICE}") from error
        paths = {}
        for file, expected in files.items():
            paths[file] = find(file)
            if paths[file] is None:
                raise DamagedMemoryError(f"{FOLDER}/{file} is missing. {_ADVICE}")
            size = Path(paths[file]).stat().st_size
            if size != expected["bytes"]:
                raise DamagedMemoryError(
                    f"{paths[file]} has {size:,} bytes, expected {expected['bytes']:,}. {_ADVICE}"
                )
            if file_sha256(paths[file]) != expected["sha256"]:
                raise DamagedMemoryError(
                    f"{paths[file]} is not the file that was saved: its checksum differs. {_ADVICE}"
                )
        try:
            tensors = load_file(paths["keys.safetensors"])
            columns = {name: _columns(paths[f"{name}.parquet"]) for name in ("transitions", "behaviour", "metadata")}
            memory = cls(config, num_items, tensors["behaviour_keys"].shape[1])
            memory.transitions = TransitionMemory.from_columns(
                columns["transitions"], tensors["counts"], config.window
            )
            for name in ("behaviour", "metadata"):
                part = VectorMemory(tensors[f"{name}_keys"].shape[1], config.temperature)
                part.keys = tensors[f"{name}_keys"]
                part.items, part.times = columns[name]["item"], columns[name]["time"]
                part.credibility, part.owners = columns[name]["credibility"], columns[name]["owner"]
                if name in kinds:
                    part.index = VectorIndex.load(paths.get(f"{name}.faiss", ""), kinds[name], part.keys)
                    part._indexed = part._built = len(part.keys)
                setattr(memory, name, part)
        except (KeyError, OSError, ValueError, SafetensorError) as error:
            raise DamagedMemoryError(f"The memory beside {path} cannot be read ({error}). {_ADVICE}") from error
        memory.probe = {
            name: tensors[f"probe_{name}"] for name in ("input_ids", "states") if f"probe_{name}" in tensors
        }
        memory.facts = manifest.get("facts", {})
        return memory


_ADVICE = (
    "Copy or download the model again, or load it without its memory: `from_pretrained(…, retrieval=False)`, "
    "`llm4rec recommend --no-retrieval`."
)


def _columns(path: str | Path) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in read_arrays(path).items()}


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()  # hashlib.file_digest is not in Python 3.10
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


__all__ = ["DamagedMemoryError", "RetrievalMemory", "file_sha256"]
