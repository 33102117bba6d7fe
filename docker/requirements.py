"""Prints what the project requires, so that packages can be installed before its sources are there:
PYPROJECT EXTRA ...
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
for extra in (None, *sys.argv[2:]):
    print(
        "\n".join(
            project["dependencies"] if extra is None else project["optional-dependencies"][extra]
        )
    )
