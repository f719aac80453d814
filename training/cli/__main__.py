"""`python -m llm4rec.training.cli`, the same as the `llm4rec` command."""

from . import main

main()
