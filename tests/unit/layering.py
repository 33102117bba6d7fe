"""Reads the imports of the sources and finds what goes against the order of their parts.

A part is what a table names: a package's folder or file, `alphadecay.spectral` or `train.errors`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

# Parts from the bottom up; those of one row know nothing of each other.
Table = Sequence[Sequence[str]]


def modules(root: Path, package: str) -> dict[str, Path]:
    """Return every module of a package by its dotted name."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, name: str, known: Iterable[str] = ()) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it, also for type checkers alone.

    Args:
        name: the file's own dotted name.
        known: modules; `from package import one_of_them` is an import of that one.
    """
    known = set(known)
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            modules_of_it = [one for one in inner if one in known]
            yield from modules_of_it
            if len(modules_of_it) < len(inner):
                yield base


def part_of(module: str, parts: Iterable[str]) -> str | None:
    """Return the longest of `parts` that a module is, or is inside of."""
    holders = [part for part in parts if module == part or module.startswith(part + ".")]
    return max(holders, key=len, default=None)


def violations(root: Path, package: str, table: Table) -> list[str]:
    """Return a line for every import that does not point down, and every module of no part."""
    level = {part: number for number, row in enumerate(table) for part in row}
    files = modules(root, package)
    found = []
    for name, path in files.items():
        here = _own_part(name, level)
        if here is None:
            found.append(f"{name} is in no row of the table")
            continue
        for target in imports(path, name, files):
            there = _own_part(target, level)
            if there is not None and there != here and level[there] >= level[here]:
                found.append(f"{name} imports {target}, which is not below it")
    return found


def _own_part(module: str, parts: Iterable[str]) -> str | None:
    """Return a module's part; the package itself is a part for its `__init__` alone."""
    part = part_of(module, parts)
    return part if part == module or (part is not None and "." in part) else None


def absent(root: Path, table: Table) -> list[str]:
    """Return the parts of a table that are no folder or file."""
    paths = {part: root / Path(*part.split(".")) for row in table for part in row}
    return [
        part
        for part, path in paths.items()
        if not (path.is_dir() or path.with_suffix(".py").is_file())
    ]


def loose_files(root: Path, package: str) -> list[str]:
    """Return the names of the files that lie in a package's own folder."""
    return sorted(path.stem for path in (root / package).glob("*.py"))


def folder_arrows(root: Path, package: str) -> dict[str, set[str]]:
    """Return which folders each folder imports from; a file beside folders stands for itself."""
    files = modules(root, package)
    parents = {path.parent.parent for path in files.values() if path.stem == "__init__"}
    arrows: dict[str, set[str]] = {}
    for name, path in files.items():
        here = _node(name, path, parents)
        for target in imports(path, name, files):
            if target in files and _node(target, files[target], parents) != here:
                arrows.setdefault(here, set()).add(_node(target, files[target], parents))
    return arrows


def _node(module: str, path: Path, parents: set[Path]) -> str:
    stands_for_itself = path.stem == "__init__" or path.parent in parents
    return module if stands_for_itself else module.rpartition(".")[0]


def cycle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of one cycle in their order, or nothing where there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return way[way.index(node) :]
        if node in done:
            return []
        for target in sorted(arrows.get(node, ())):
            found = visit(target, [*way, node])
            if found:
                return found
        done.add(node)
        return []

    return next((found for node in sorted(arrows) if (found := visit(node, []))), [])


def misplaced(root: Path, package: str, optional: Mapping[str, str]) -> list[str]:
    """Return the imports of optional packages in files whose names lack the given word."""
    found = []
    for name, path in modules(root, package).items():
        taken = {target.split(".")[0] for target in imports(path, name)} & set(optional)
        found += [
            f"{name} imports {one}" for one in sorted(taken) if optional[one] not in path.stem
        ]
    return found
