"""The running Python's own library as a source."""

from __future__ import annotations

from train.data.sources.quarantine import Quarantine
from train.data.sources.stdlib import stdlib_paths, stdlib_source


def test_stdlib_is_sorted_library_source_without_tests():
    paths = stdlib_paths()
    names = {path.name for path in paths}
    assert {"argparse.py", "dataclasses.py", "ast.py"} <= names
    assert paths == sorted(paths) and len(paths) > 300
    assert not any(
        {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
        & set(path.parts[-4:])
        for path in paths
    )
    source = stdlib_source()
    documents = list(source.documents(Quarantine(None, 0.0)))
    assert len(documents) == source.expected == len(paths)
    assert documents[
        paths.index(next(path for path in paths if path.name == "argparse.py"))
    ].startswith("# Author")
