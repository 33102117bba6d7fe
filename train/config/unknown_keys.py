"""Finds the key that was meant where there is none of that name."""

from __future__ import annotations

import difflib

from train.config.key_registry import known_keys, sections
from train.config.synonyms import KEY_SYNONYMS, NOTES, SECTION_SYNONYMS
from train.errors import Problems


def check_known(key: str, where: str, problems: Problems) -> bool:
    """Return whether there is such a key; note an unknown one with what may have been meant."""
    known = known_keys()
    if key in known:
        return True
    if key in sections():
        own = [name for name in known if name.startswith(f"{key}.")]
        problems.add(f"{key} {where} is a section; set one of its keys: {', '.join(own)}", *own)
        return False
    meant = meant_keys(key)
    hint = f"did you mean {' or '.join(meant)}?" if meant else "--help lists every key"
    note = NOTES.get(_leaf(key), "") if meant else ""
    problems.add(f"unknown key {key!r} {where}; {hint}{note and f' ({note})'}", *meant)
    return False


def meant_keys(key: str) -> tuple[str, ...]:
    """Return the keys that a misspelt or foreign name may stand for."""
    known = known_keys()
    name = _normal(key)
    leaf = _leaf(key)
    group = name.rpartition(".")[0]
    ours = meant_section(group)
    if f"{ours}.{leaf}" in known:
        return (f"{ours}.{leaf}",)
    for spelling in (name, f"{ours}.{leaf}"):
        if spelling in KEY_SYNONYMS:
            return KEY_SYNONYMS[spelling]
    foreign = KEY_SYNONYMS.get(leaf, ())
    here = tuple(meant for meant in foreign if meant.startswith(f"{ours}."))
    same_leaf = tuple(meant for meant in known if meant.rpartition(".")[2] == leaf)
    near = difflib.get_close_matches(name, known, n=1)
    leaves = {meant.rpartition(".")[2] for meant in known}
    near_leaf = difflib.get_close_matches(leaf, leaves, n=1)
    loose = [meant for meant in known if meant.rpartition(".")[2] in near_leaf]
    return here or foreign or same_leaf or tuple(near) or tuple(loose)


def meant_section(name: str) -> str:
    """Return the section that a name is, or may stand for; empty if there is none."""
    name = _normal(name)
    if name in sections():
        return name
    if name in SECTION_SYNONYMS:
        return SECTION_SYNONYMS[name][0]
    near = difflib.get_close_matches(name, sections(), n=1)
    return near[0] if near else ""


def _normal(key: str) -> str:
    return key.replace("-", "_").lower()


def _leaf(key: str) -> str:
    return _normal(key).rpartition(".")[2]
