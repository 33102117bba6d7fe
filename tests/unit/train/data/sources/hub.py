"""A dataset repository as the hub serves it, from this machine, with faults as of a network."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

NAME = "allenai/c4"


class Hub(ThreadingHTTPServer):
    """Serves the revisions of one dataset, each a folder below `root`, on a free port.

    Attributes:
        failing: reads of data files that still break off midway.
        out_of_service: answers about the repository that are still refused.
        asked: paths that were asked for.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.failing = 0
        self.out_of_service = 0
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, revision: str) -> str:
        """Return the 40 digits that stand for a revision."""
        return hashlib.sha1(revision.encode()).hexdigest()

    def folder(self, revision: str) -> Path | None:
        """Return the folder of a branch, tag or commit."""
        for folder in self.root.iterdir():
            if revision in (folder.name, self.commit(folder.name)):
                return folder
        return None


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        path = urlsplit(self.path).path
        self.server.asked.append(f"POST {path}")
        _, _, revision = path.partition("/paths-info/")
        folder = self.server.folder(unquote(revision))
        if folder is None:
            return self._json({"error": "no such revision"}, 404)
        try:
            paths = json.loads(body)["paths"]
        except ValueError:
            paths = parse_qs(body)["paths"]
        self._json([_entry(folder, folder / p) for p in paths if (folder / p).exists()])

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith(f"/api/datasets/{NAME}"):
            if self.server.out_of_service:
                self.server.out_of_service -= 1
                return self._json({"error": "out of service"}, 503)
            self._api(path.removeprefix(f"/api/datasets/{NAME}"))
        elif path.startswith(f"/datasets/{NAME}/resolve/"):
            revision, _, name = path.removeprefix(f"/datasets/{NAME}/resolve/").partition("/")
            self._file(revision, name)
        else:
            self._json({"error": f"no {path}"}, 404)

    def _api(self, rest: str) -> None:
        kind, _, of = rest.lstrip("/").partition("/")
        revision, _, inner = (of or "main").partition("/")
        folder = self.server.folder(revision)
        if folder is None:
            self._json({"error": "no such revision"}, 404, "RevisionNotFound")
        elif kind == "tree":
            below = folder / inner
            if not below.is_dir():
                return self._json({"error": "no such folder"}, 404, "EntryNotFound")
            deep = "recursive=True" in self.path or "recursive=true" in self.path
            paths = below.rglob("*") if deep else below.iterdir()
            self._json([_entry(folder, path) for path in sorted(paths)])
        else:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            names = [{"rfilename": str(path.relative_to(folder))} for path in files]
            commit = self.server.commit(folder.name)
            self._json({"id": NAME, "sha": commit, "private": False, "disabled": False,
                        "gated": False, "downloads": 0, "likes": 0, "tags": [],
                        "siblings": names})  # fmt: skip

    def _file(self, revision: str, name: str) -> None:
        folder = self.server.folder(revision)
        if folder is None or not (folder / name).is_file():
            kind = "EntryNotFound" if folder else "RevisionNotFound"
            return self._json({"error": "no such file"}, 404, kind)
        content = (folder / name).read_bytes()
        first, last = 0, len(content) - 1
        ranged = self.headers.get("Range")
        if ranged:
            low, _, high = ranged.removeprefix("bytes=").partition("-")
            first, last = int(low), min(last, int(high or last))
        part = content[first : last + 1]
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit(folder.name))
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.failing and name.endswith(".gz"):
            self.server.failing -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        self.wfile.write(part)

    def _json(self, values: object, code: int = 200, error: str = "") -> None:
        body = json.dumps(values).encode()
        self.send_response(code)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(folder: Path, path: Path) -> dict[str, object]:
    name = str(path.relative_to(folder))
    oid = hashlib.sha1(name.encode()).hexdigest()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": oid, "size": 0}
    return {"type": "file", "path": name, "oid": oid, "size": path.stat().st_size}
