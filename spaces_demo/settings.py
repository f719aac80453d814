"""Settings of the Space: which model it serves, and where feedback and study lie.

Read from environment variables, which a Space has in its settings; `llm4rec demo` sets the same fields by its options.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..modeling_llm4rec.explanation_text import STYLES

MODEL_VARIABLE = "LLM4REC_MODEL"
REVISION_VARIABLE = "LLM4REC_REVISION"
FEEDBACK_VARIABLE = "LLM4REC_FEEDBACK_LOG"
STUDY_VARIABLE = "LLM4REC_STUDY"
STYLES_VARIABLE = "LLM4REC_STUDY_STYLES"

PERSISTENT = Path("/data")
"""Where a Space keeps files for good, if it has such a disk."""


@dataclass(frozen=True)
class Settings:
    """What a Space is started with.

    Args:
        model: folder or Hub id; `None`: the default checkpoint.
        revision: of a model of the Hub.
        feedback_log: file of the log; it is made if it is not there.
        study: file of the ratings of the study, JSON Lines.
        study_styles: the two styles of explanation that the study compares.
    """

    model: str | None = None
    revision: str | None = None
    feedback_log: Path = Path("feedback.db")
    study: Path = Path("study.jsonl")
    study_styles: tuple[str, str] = ("short", "detailed")

    def __post_init__(self) -> None:
        styles = self.study_styles
        if len(styles) != 2 or styles[0] == styles[1] or not set(styles) <= set(STYLES):
            raise ValueError(
                f"The study compares {', '.join(styles)!r}, expected two different styles of {', '.join(STYLES)}. "
                f"Set {STYLES_VARIABLE} to two of them, separated by a comma."
            )
        if self.revision and not self.model:
            raise ValueError(
                f"{REVISION_VARIABLE} is {self.revision!r}, but no model is named. Set {MODEL_VARIABLE} too."
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """As the variables say; files lie on the Space's persistent disk if it has one, else in a temporary folder."""
        given = os.environ if environment is None else environment
        lasting = PERSISTENT.is_dir() and os.access(PERSISTENT, os.W_OK)
        folder = PERSISTENT if lasting else Path(tempfile.gettempdir()) / "llm4rec-space"
        styles = given.get(STYLES_VARIABLE)
        return cls(
            model=given.get(MODEL_VARIABLE) or None,
            revision=given.get(REVISION_VARIABLE) or None,
            feedback_log=Path(given.get(FEEDBACK_VARIABLE) or folder / "feedback.db"),
            study=Path(given.get(STUDY_VARIABLE) or folder / "study.jsonl"),
            **({"study_styles": tuple(name.strip() for name in styles.split(","))} if styles else {}),
        )
