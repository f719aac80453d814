"""The Space's entry: what Hugging Face runs, and `python app.py` anywhere.

The tabs are modules of the installed package (`llm4rec.spaces_demo`), so that this file is all a Space must hold.
"""

import os

import torch

from llm4rec.spaces_demo.interface import build, serve
from llm4rec.spaces_demo.service import Service
from llm4rec.spaces_demo.settings import Settings

# Requests of a small model are many small operations: threads inside them only wait for each other.
torch.set_num_threads(1 if Settings.from_environment().model is None else max(1, os.cpu_count() or 1))

if __name__ == "__main__":
    serve(build(Service(Settings.from_environment())))
