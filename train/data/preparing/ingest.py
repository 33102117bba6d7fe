"""Writes sources into token files.

Chunks are read in order, encoded by workers and written in order, with a note now and then of how
far it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from train.data.loading.memmap import Split, dtype_name
from train.data.preparing.content import FollowingHashes
from train.data.preparing.encode import Encoded, Plan, encode_chunk
from train.data.preparing.progress import Progress
from train.data.preparing.state import State
from train.data.preparing.work_folder import WorkFolder
from train.data.preparing.workers import encode_all
from train.data.sources.chunks import Chunk
from train.data.sources.quarantine import Quarantine, no_documents
from train.data.sources.source import Source
from train.data.tokenizers.load import AnyTokenizer
from train.errors import UserError

# Text between two records: a kill costs no more, but for chunks in work.
RECORD_BYTES = 64_000_000
BROKEN_FILE = "truncated or corrupt file"


@dataclass(frozen=True)
class Stage:
    """A source, and where its documents go.

    Args:
        source: the corpus.
        split: where its documents go.
        limit: documents of it that go there at most; 0 takes all.
        held_out: share of its documents that goes to validation instead.
        hashes: those of its files.
    """

    source: Source
    split: Split
    hashes: FollowingHashes
    limit: int = 0
    held_out: float = 0.0


class Ingest:
    """Fills a work folder, from wherever its state says it is."""

    def __init__(
        self,
        work: WorkFolder,
        tokenizer: AnyTokenizer,
        quarantine: Quarantine,
        progress: Progress,
        workers: int,
    ) -> None:
        self.work = work
        self.tokenizer = tokenizer
        self.quarantine = quarantine
        self.progress = progress
        self.workers = workers
        self._since_record = 0

    def run(self, stages: list[Stage]) -> None:
        """Run every stage to its end.

        Raises:
            UserError: too many bad rows, a file without documents, or a source that cannot be read.
        """
        self._go_on()
        for stage, count in zip(stages, self.work.state.read, strict=False):
            stage.hashes.read_up_to(count)
        for stage in stages[self.work.state.phase :]:
            self._run(stage)
            state = self.work.state
            state.read = [*state.read, stage.hashes.count]
            state.phase = state.phase + 1
            state.position = None
            state.first = True
            state.taken = 0
            state.file_start = None
            self.work.record()
        self.quarantine.check()

    def _go_on(self) -> None:
        state = self.work.state
        self.quarantine.restore(state.rows, state.reasons)
        documents, tokens = state.totals()
        if state.records:
            self.progress.say(
                f"Going on from {self.work.folder}: {documents:,} documents, {tokens:,} tokens are "
                "there"
            )
        self.progress.advance(documents, tokens)

    def _run(self, stage: Stage) -> None:
        plan = Plan(stage.split, stage.held_out, dtype_name(self.tokenizer.size))
        position = self.work.state.position
        folder = self.work.folder
        for chunk, encoded in encode_all(
            stage.source, position, self.tokenizer, folder, plan, self.workers
        ):
            if self._take(chunk, encoded, stage, plan):
                return
            self._since_record += chunk.bytes
            if self._since_record >= RECORD_BYTES:
                self.work.record()
                self._since_record = 0

    def _take(self, chunk: Chunk, encoded: Encoded, stage: Stage, plan: Plan) -> bool:
        """Write a chunk down, and return whether the stage has all it wants."""
        state = self.work.state
        if chunk.begins:
            self.work.begin_file(may_break=chunk.begins.endswith(".gz"))
        left = stage.limit - state.taken if stage.limit else 0
        taken = encoded.documents_of(stage.split)
        enough = 0 < left <= taken
        if state.first or enough:  # what came before decides; workers cannot know it
            rows = chunk.rows or self._rows_of(chunk, stage)
            whole = replace(chunk, rows=rows)
            encoded = encode_chunk(whole, self.tokenizer, plan, state.first, left)
            taken = encoded.documents_of(stage.split)
            enough = 0 < left <= taken
        self._count(encoded)
        tokens = self.work.append(encoded)
        state.first = state.first and not encoded.documents
        state.taken += taken
        state.position = chunk.after
        midway = enough and chunk.after.get("offset", 0) > 0
        stage.hashes.read_up_to(chunk.after.get("file", 0) + midway)
        self.progress.advance(encoded.documents, tokens)
        if chunk.ends and not enough:
            self._end_file(chunk)
        return enough

    def _rows_of(self, chunk: Chunk, stage: Stage) -> list[tuple[str, int, Any]]:
        """Read the rows of the chunk that comes next, which was read in another process."""
        rows: list[tuple[str, int, Any]] = []
        for part in stage.source.chunks(self.work.state.position):
            rows += part.rows
            if part.after == chunk.after:
                return rows
        raise UserError(
            f"{stage.source.description} changed while it was prepared; prepare it again."
        )

    def _count(self, encoded: Encoded) -> None:
        state = self.work.state
        done = 0
        for number, file, line, reason in encoded.bad:
            self.quarantine.accept(number - done - 1)
            self.quarantine.reject(file, line, reason)
            done = number
        self.quarantine.accept(encoded.rows - done)
        state.rows = self.quarantine.rows
        state.reasons = dict(self.quarantine.reasons)

    def _end_file(self, chunk: Chunk) -> None:
        """Judge a file that was read to its end.

        A broken file vouches for none of its rows; one without documents is a mistake.
        """
        state = self.work.state
        assert state.file_start is not None
        before = State.of(state.file_start)
        rows = state.rows - before.rows
        bad = sum(state.reasons.values()) - sum(before.reasons.values())
        if chunk.broken:
            self._set_aside_file(chunk, rows)
        elif rows == bad:
            raise no_documents(chunk.ends, bad, self.quarantine.last_reason)
        self.work.state.may_break = False

    def _set_aside_file(self, chunk: Chunk, rows: int) -> None:
        documents, tokens = self.work.state.totals()
        self.work.back_to_file_start()
        state = self.work.state
        documents_before, tokens_before = state.totals()
        self.progress.advance(documents_before - documents, tokens_before - tokens)
        self.progress.say(
            f"{chunk.ends} is truncated or corrupt ({chunk.broken}); its {rows:,} readable rows "
            "are set aside"
        )
        self.quarantine.restore(state.rows, state.reasons)
        state.position = chunk.after
        self.quarantine.reject(chunk.ends, 0, BROKEN_FILE, rows + 1)  # and the one that broke off
        state.rows = self.quarantine.rows
        state.reasons = dict(self.quarantine.reasons)
