"""CITATION.cff: the version is the library's, the paper the one that README.md names."""

from __future__ import annotations

import re

import yaml

import alphadecay
from tests.conftest import ROOT


def test_it_cites_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == alphadecay.__version__
    paper = citation["preferred-citation"]
    [number] = set(re.findall(r"arxiv\.org/abs/([\d.]+)", (ROOT / "README.md").read_text()))
    assert number in paper["url"]
    assert paper["identifiers"][0]["value"] == f"arXiv:{number}"
    assert paper["authors"][0]["family-names"] == "He"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1200
