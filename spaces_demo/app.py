"""The Space's entry: what Hugging Face runs, and `python app.py` anywhere.

The tabs are modules of the installed package (`llm4rec.spaces_demo`), so that this file is all a Space must hold.
"""

import os

import torch

from llm4rec.spaces_demo.interface import build, serve
from llm4rec.spaces_demo.service import Service
from llm4rec.spaces_demo.settings import Settings

# Two requests run side by side; more threads would only wait for each other.
torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))

if __name__ == "__main__":
    serve(build(Service(Settings.from_environment())))
