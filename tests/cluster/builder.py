"""Images without a daemon: buildah builds, podman runs, both in a store of their own below a
folder. Needs root.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

GUARD = 1800.0  # seconds: a hang is a failure, a slow network is not
BASE = "localhost/python-base:test"
IMAGE = "localhost/alphadecay:cpu"
# podman cannot start a container where the host has control groups of both kinds: a tree of the
# second kind alone, for it alone.
_CGROUP2 = 'umount -l -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'


@dataclass(frozen=True)
class Builder:
    """A store and its settings."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Builder:
        """An empty store."""
        (folder / "tmp").mkdir(parents=True)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        processes = 32768
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = '
            f'"{folder}/run"\n'
        )
        (folder / "containers.conf").write_text(
            '[containers]\ncgroups = "disabled"\nutsns = "host"\nlog_driver = "k8s-file"\n'
            f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
            '[engine]\nruntime = "crun"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        (folder / "registries.conf").write_text('unqualified-search-registries = ["localhost"]\n')
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """What points buildah and podman at the store."""
        mine = {name: str(self.folder / f"{file}.conf") for name, file in _FILES.items()}
        return (
            os.environ | mine | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self.folder / "tmp")}
        )

    def run(
        self, *command: str | Path, cwd: Path = ROOT, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A command with the store's settings."""
        line = [str(part) for part in command]
        done = subprocess.run(
            line,
            cwd=cwd,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=GUARD,
        )
        assert done.returncode == 0 or not check, f"{line}\n{done.stdout}"
        return done

    def podman(self, *arguments: str | Path) -> list[str]:
        """The command line of podman."""
        return [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-c",
            _CGROUP2,
            "podman",
            "podman",
            *map(str, arguments),
        ]

    def base(self) -> None:
        """A base with Python and pip, and no more, in place of the one on a hub."""
        context = self.folder / "base"
        context.mkdir()
        self.run(
            "mmdebstrap",
            "--variant=minbase",
            "--include=python3,python3-venv,python3-pip,ca-certificates",
            "bookworm",
            context / "base.tar",
        )
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        self.run("buildah", "build", "--tag", BASE, context)

    def build(self, target: str, project: Path) -> str:
        """`make image` or `make sbom` in a copy of the project. Returns what it printed."""
        settings = [
            "--format docker",
            "--pull-never",
            f"--signature-policy {self.folder}/policy.json",
            "--layers",
        ]
        settings += [
            f"--build-arg PYTHON_IMAGE={BASE}",
            "--build-arg TORCH_INDEX=",
            *self._pip_settings(),
        ]
        return self.run(
            "make", target, "DOCKER=buildah", f"ARGS={' '.join(settings)}", cwd=project
        ).stdout

    def _pip_settings(self) -> list[str]:
        """This machine's pip settings for the builder, and the folders they name."""
        listed = self.run(sys.executable, "-m", "pip", "config", "list").stdout
        values = dict(
            line.split("=", 1)
            for line in listed.splitlines()
            if line.split(".", 1)[0] in ("global", ":env:")
        )
        plain = {key.split(".", 1)[1]: value.strip("'\"") for key, value in values.items()}
        # The build's own constraints stay in force.
        plain = {
            key: value
            for key, value in plain.items()
            if key in ("cert", "index-url", "extra-index-url", "find-links", "proxy")
        }
        (self.folder / "pip.conf").write_text(
            "[global]\n" + "".join(f"{key} = {value}\n" for key, value in plain.items())
        )
        words = [word.removeprefix("file://") for value in plain.values() for word in value.split()]
        folders = {
            str(Path(word) if Path(word).is_dir() else Path(word).parent)
            for word in words
            if word.startswith("/")
        }
        mounts = {folder.removesuffix("/simple") for folder in folders} | {"/etc/ssl/certs"}
        return [f"--volume {path}:{path}:ro" for path in sorted(mounts)] + [
            f"--volume {self.folder}/pip.conf:/etc/pip.conf:ro"
        ]


_FILES = {
    "CONTAINERS_STORAGE_CONF": "storage",
    "CONTAINERS_CONF": "containers",
    "CONTAINERS_REGISTRIES_CONF": "registries",
}


def builder(folder: Path) -> Builder:
    """A builder, or a skip where there can be none."""
    missing = [
        tool
        for tool in ("buildah", "podman", "crun", "mmdebstrap", "make")
        if not shutil.which(tool)
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: tests/cluster/packages.txt")
    if os.geteuid() != 0:
        pytest.skip("needs root, to build without a daemon")
    return Builder.make(folder)
