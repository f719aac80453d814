"""A Python environment that has torch and transformers, what they depend on, and nothing else.

Made without a network, of links to the packages installed here: what is not linked is not on the disk there, so a
missing dependency shows as it would on a reader's machine.
"""

import os
import re
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def make_bare_environment(folder):
    """The environment's Python."""
    venv.EnvBuilder(symlinks=True).create(folder)
    site_packages = next(Path(folder).glob("lib/python*/site-packages"))
    for found in closure("torch", "transformers"):
        for name in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            here = Path(found.locate_file(name))
            if not (site_packages / name).exists() and here.exists():
                (site_packages / name).symlink_to(here)
    return Path(folder) / "bin" / "python"


def closure(*names):
    """The distributions of these names and of all that they need."""
    found, open_names = {}, list(names)
    while open_names:
        name = re.sub(r"[-_.]+", "-", open_names.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # needed on other systems
        requirements = [Requirement(text) for text in found[name].requires or ()]
        open_names += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return list(found.values())


def run_bare(python, script, *arguments, **environment):
    """Run a script there; its error output is part of the failure."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
    result = subprocess.run(
        [str(python), "-c", script, *map(str, arguments)],
        env={**kept, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


if __name__ == "__main__":
    print(make_bare_environment(sys.argv[1]))
