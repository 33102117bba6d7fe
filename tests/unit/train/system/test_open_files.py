"""The limit of open files is the hard one, not the soft one."""

import resource

import pytest

from train.system import open_files


@pytest.fixture
def limit(monkeypatch):
    """The limits of a process, not this one's."""
    held = {"value": (1024, 4096)}
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda which: held["value"])

    def setrlimit(which, value):
        assert which == resource.RLIMIT_NOFILE
        held["value"] = value

    monkeypatch.setattr(open_files.resource, "setrlimit", setrlimit)
    return held


def test_the_soft_limit_becomes_the_hard_one(limit):
    assert open_files.raise_open_file_limit() == 4096
    assert limit["value"] == (4096, 4096)
    assert open_files.raise_open_file_limit() == 4096


def test_where_it_is_forbidden_the_limit_stays(limit, monkeypatch):
    def forbidden(which, value):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(open_files.resource, "setrlimit", forbidden)
    assert open_files.raise_open_file_limit() == 1024
