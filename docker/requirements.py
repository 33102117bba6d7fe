"""Prints what the project requires: `requirements.py PYPROJECT EXTRA ...`.

Packages can so be installed before the project's sources are there.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
print("\n".join(project["dependencies"]))
for extra in sys.argv[2:]:
    print("\n".join(project["optional-dependencies"][extra]))
