"""A saved recommender, found, checked and loaded, by folder or Hub id.

Every command that asks a model starts here. What is wrong with a folder is said by the name of the file at fault,
before the libraries underneath can say it in their words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..configuration.recipe import Recipe
from ..modeling_llm4rec import LLM4RecConfig, LLM4RecForCausalLM, LLM4RecProcessor
from ..modeling_llm4rec.configuration_llm4rec import NewerFormatError
from ..modeling_llm4rec.memory import DamagedMemoryError

RECIPE_FILE = "recipe.yaml"
CHECKPOINTS = "checkpoints"
NEEDED = ("config.json", "processor_config.json", "catalog.parquet")
"""Files of every model folder; the weights have several names."""


def load_recommender(
    name: str | Path, retrieval: bool = True, revision: str | None = None
) -> tuple[LLM4RecForCausalLM, LLM4RecProcessor]:
    """A model, ready to recommend, and its processor.

    Args:
        name: a model folder or a Hub id (`name/name`); a folder comes first.
        retrieval: load the model's memory, if it has one.
        revision: branch, tag or commit on the Hub; by default `main`.

    Raises:
        FileNotFoundError: if there is no such folder, it holds no model, or the Hub has no such model or revision.
        PermissionError: if the Hub does not know the token.
        ConnectionError: if the Hub cannot be reached, and the model was not downloaded before.
        ValueError: if a file of the model is damaged, files do not belong together, a later version wrote them, or a
            folder is given a revision.
    """
    name = _checked_name(name)
    where = _where(name, revision)
    try:
        model, info = LLM4RecForCausalLM.from_pretrained(name, output_loading_info=True, retrieval=retrieval, **where)
        processor = LLM4RecProcessor.from_pretrained(name, **where)
    except (ImportError, DamagedMemoryError, NewerFormatError):
        raise
    except Exception as error:  # safetensors, tokenizers, pyarrow and the Hub each have their own
        reason = short_reason(error)
        if not Path(name).is_dir():
            raise FileNotFoundError(
                f"{name} could not be had from the Hub: {reason} Check the network, and run the same command again."
            ) from error
        raise ValueError(
            f"{name} cannot be loaded: {_damaged_file(Path(name)) or reason} Copy or download the model again, or "
            "train it again."
        ) from error
    if info["missing_keys"]:
        raise ValueError(
            f"{name} lacks {len(info['missing_keys'])} of its weights, such as {min(info['missing_keys'])}. Copy or "
            "download the model again, or train it again."
        )
    if len(processor.catalog) != model.num_items:
        raise ValueError(
            f"{name}: catalog.parquet lists {len(processor.catalog):,} items, the model has {model.num_items:,}. The "
            "files are of two models; save model and processor to one folder together."
        )
    return model.eval(), processor


def check_model_folder(name: str | Path) -> Path:
    """The folder of a whole model, which is not loaded for that.

    Raises:
        FileNotFoundError: if there is no such folder, or files of a model are missing in it.
        ValueError: if a file of the model is damaged.
    """
    path = Path(name).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: expected a model folder (from `llm4rec train`).")
    _checked_name(path)
    damaged = _damaged_file(path)
    if damaged:
        raise ValueError(f"{path} cannot be loaded: {damaged} Copy or download the model again, or train it again.")
    weights = {file.name for file in path.glob("*.safetensors")}
    needed = {"adapter_model.safetensors"} if (path / "adapter_config.json").is_file() else {"model.safetensors"}
    index = path / "model.safetensors.index.json"
    if index.is_file() and not needed <= weights:
        needed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    missing = sorted(needed - weights)
    if missing:
        raise FileNotFoundError(
            f"{path} is no whole model: {missing[0]} missing. Copy or download the model again, or train it again."
        )
    return path


def recipe_of(name: str | Path, revision: str | None = None) -> Recipe | None:
    """The recipe that a model was trained by; `None` if none was saved beside it."""
    from transformers.utils import cached_file

    path = cached_file(
        str(name),
        RECIPE_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **_where(str(name), revision),
    )
    return None if path is None else Recipe.load(path)


def _where(name: str, revision: str | None) -> dict[str, Any]:
    """Keyword arguments that say where the files of a model are to be had."""
    if not Path(name).expanduser().is_dir():
        from .hub.download import files_of

        return files_of(name, revision)
    if revision is not None:
        raise ValueError(
            f"{name} is a folder here, and revisions are of the Hub: leave out {revision!r}, or move to where no "
            "folder of that name is."
        )
    return {}


def short_reason(error: Exception) -> str:
    """An error of another library in a line of at most 300 characters that ends in a full stop."""
    line = " ".join(str(error).split()) or type(error).__name__
    if "ignore_mismatched_sizes" in line:  # transformers tells the rest in a table that nobody sees
        line = "The weights do not have the shapes that config.json says"
    return (line if len(line) <= 300 else line[:299] + "…").rstrip(".") + "."


def _checked_name(name: str | Path) -> str:
    """The folder or Hub id to load; raises `FileNotFoundError` or `ValueError` where there is no model for certain."""
    path = Path(name).expanduser()
    if path.is_file():
        raise FileNotFoundError(f"{path} is a file, expected a model folder or a Hub id (name/name).")
    if not path.exists():
        if path.is_absolute() or str(name).startswith(".") or str(name).count("/") != 1:
            raise FileNotFoundError(
                f"{path} not found: expected a model folder (from `llm4rec train`) or a Hub id (name/name)."
            )
        return str(name)
    missing = [file for file in NEEDED if not (path / file).is_file()]
    if "config.json" in missing:
        raise FileNotFoundError(f"{path} holds no model (no config.json). {_advice(path)}")
    if missing:
        raise FileNotFoundError(
            f"{path} is no whole model: {' and '.join(missing)} missing. Copy or download the model again, or train "
            "it again."
        )
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path / 'config.json'} is damaged: {short_reason(error)} Copy the model again.") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind is None:
        raise ValueError(f"{path / 'config.json'} is not the configuration of a model: it has no `model_type`.")
    if kind != LLM4RecConfig.model_type:
        raise ValueError(
            f"{path} holds a {kind!r} model, expected a recommender. Make one on it with `llm4rec train DATA --output "
            f"MODEL --recipe pretrained-llm-lora --set model.backbone={path}`."
        )
    return str(path)


def _damaged_file(folder: Path) -> str:
    """Which file of a model cannot be read, and why; empty if each by itself can."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.iterdir()):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".safetensors":
                with safe_open(file, framework="np"):
                    pass
        except (ValueError, SafetensorError) as error:
            return f"{file.name} is damaged ({short_reason(error).rstrip('.')})."
    return ""


def _advice(path: Path) -> str:
    if (path / CHECKPOINTS).is_dir():
        return "Its training was interrupted: finish it with the same `llm4rec train` command and --resume."
    if (path / "stats.json").is_file():
        return f"It is a prepared data set: train a model on it with `llm4rec train {path} --output MODEL`."
    if (path / "model" / "config.json").is_file():
        return f"Did you mean {path / 'model'}?"
    return "Train one with `llm4rec train`, or give a Hub id (name/name)."
