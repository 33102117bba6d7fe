"""Takes a run's figures to metrics.jsonl, and from there to the console and dashboards.

Every rank has one and calls it alike, for some figures are over all ranks; rank 0 alone writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alphadecay.inspect.run.metrics import FigureOfMerit
from alphadecay.inspect.run.parts import training_seconds
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.run_folder import ATTEMPTS, METRICS
from train.engines.protocol import Engine
from train.models import spec_of
from train.models.compiling import compile_seconds
from train.models.kernels import compiles_layers, why_not_compiled
from train.telemetry.attempts import AttemptLog
from train.telemetry.clock import StepClock
from train.telemetry.cumulative import CumulativeDecay
from train.telemetry.decay_readings import DecayReadings, at_their_rates, refresh_figures
from train.telemetry.dynamics import Dynamics
from train.telemetry.journal import Journal
from train.telemetry.logits import LogitGrowth
from train.telemetry.norms import WeightNorms
from train.telemetry.peak import Peak, find_peak
from train.telemetry.profiler import ProfileWindow
from train.telemetry.progress import Progress, make_progress
from train.telemetry.shards import Shards
from train.telemetry.usage import Totals, memory, over_ranks


class Telemetry:
    """The figures of one run, as one rank sees them.

    Args:
        config: the run.
        folder: its output_dir.
        world: this rank.
        engine: for the norms of its weights.
        resume_step: the step gone on from; None starts afresh.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        world: World,
        engine: Engine,
        resume_step: int | None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._world = world
        self._engine = engine
        self.clock = StepClock(world.device)
        # Tokens with the fill.
        self._positions_per_step = config.run.global_batch * config.positions
        self._flops_per_token = spec_of(config.model).flops_per_token(
            config.model, config.positions
        )
        self._peak: Peak | None = None
        self._totals = Totals()
        self._cumulative = CumulativeDecay()
        self._validation: dict[str, float] = {}
        self._began = False
        self._compiled = compile_seconds()  # what there was before this run's steps
        self._timed_step = resume_step or 0  # up to here steps are in the totals
        self._step = resume_step or 0
        self._tokens = 0
        self._window = Totals()  # since the training line before
        self._progress: Progress = make_progress(config.log.progress if world.is_main else "off")
        self._progress.of_text = config.task == "language_modelling"
        self._profile = ProfileWindow(
            config.log.profile_from if world.is_main else 0, config.log.profile_steps, folder
        )
        self._attempt = AttemptLog(
            folder / ATTEMPTS,
            resume_step or 0,
            resume_step is None and config.resume == "never",
            self.message,
        )
        self.journal = Journal(config, folder, world, resume_step, self._attempt, self.message)
        self._progress.start(config.run.steps, resume_step or 0)
        shards = self._find_shards()
        self._norms = WeightNorms(shards) if shards is not None else None
        every = config.log.dynamics
        self._dynamics = (
            Dynamics(every, config.optim, config.decay, shards) if shards is not None else None
        )
        self.logits = LogitGrowth(engine.module, world, on=every > 0)

    @property
    def began(self) -> bool:
        """True once this process took a step."""
        return self._began

    def loop_begins(self, job_began: float) -> None:
        """Note that the start is over.

        Args:
            job_began: when the job did, its launcher's part included; seconds of time.time().
        """
        self._attempt.loop_begins(job_began)

    def begin(self, step: int) -> None:
        """Prepare for a training step. Collective at the first."""
        if not self._began:
            self._began = True
            peak = self._config.log.peak_tflops
            self._peak = find_peak(peak, self._engine.dtype, self._world)
            self.message(
                f"mfu is against {self._peak.tflops:.3g} TFLOP/s a rank ({self._peak.source})"
            )
            if compiles_layers(self._config.model):
                self.message("compiling the decoder layers in this first step")
            elif notice := why_not_compiled(self._config.model):
                self.message(notice)
        self._profile.begin(step)
        if self._dynamics is not None:
            self._dynamics.begin(step)

    def stepped(
        self, lr: float, base: float, decay: DecayReadings | None, *, momentum: float
    ) -> None:
        """Note that an optimizer step was applied, not skipped.

        It ran on the decays that are in force until `decay.step()`; on the base decay where there
        is no controller.
        """
        if self._dynamics is not None:
            self._dynamics.stepped(lr, base, decay, momentum=momentum)
        self._cumulative.add(lr, at_their_rates(decay) if decay is not None else {"all": base})

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """Note that a training step is done; write its lines where it has some. Collective there.

        The first step, one in log.every and the last have a line.

        Args:
            values: what the line says; among it "tokens", the real tokens since the start of the
                run.
        """
        self._step = step
        self._tokens = int(values["tokens"])
        compiled = compile_seconds() - self._compiled
        self._compiled += compiled
        self._progress.advance(step, compiled)
        if compiled:
            self.message(f"compiling took {compiled:.1f} s; tokens/s and mfu are without")
        self._tell_trace(lambda: self._profile.end(step), f"of steps up to {step}")
        if step == 1 or step % self._config.log.every == 0 or step == self._config.run.steps:
            self._write("train", step, {**values, **self._figures(step)})
            self._attempt.note(step)
        if self._dynamics is not None and (figures := self._dynamics.read()):
            self._write("dynamics", step, figures)

    def validation(self, step: int, record: Mapping[str, float], figure: FigureOfMerit) -> None:
        """Write the line of a validation."""
        self._validation = dict(record)
        self._write("validation", step, {**record, "figure": figure._asdict()})

    def downstream(self, step: int, record: Mapping[str, Any]) -> None:
        """Write the line of a downstream evaluation."""
        self._write("downstream", step, record)

    def refresh(self, decay: DecayReadings, lr: float) -> None:
        """Write the line of a refresh; its step is the first that runs on these decays.

        Args:
            lr: the learning rate of that step, for the half-lives.
        """
        values = refresh_figures(decay, lr, self._cumulative.sums, self._positions_per_step)
        self._write("refresh", decay.last_refresh_step, values)

    def notice(self, step: int, text: str, **values: Any) -> None:
        """Record something that a person should know of later, such as a spike of the loss.

        It has a line of its own in metrics.jsonl.
        """
        self._write("notice", step, {"notice": text, **values})

    def chose(self, step: int, text: str) -> None:
        """Record which sizes auto took and why, with those sizes.

        The console had the line before the model was built.
        """
        if self._world.is_main:
            sizes = {
                "micro_batch": self._config.run.micro_rows,
                "ds_config": self._config.deepspeed.config,
            }
            self.journal.write("notice", step, {"notice": text, **sizes})

    def message(self, text: str) -> None:
        """Show a line to the person watching; it is kept nowhere."""
        self._progress.message(text)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers for a checkpoint, the same on every rank. Collective."""
        self._tally(self._step)
        self._attempt.note(self._step)
        return {
            "totals": self._totals.state_dict(),
            "window": self._window.state_dict(),
            "cumulative_decay": self._cumulative.sums,
            "validation": self._validation,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state; an empty one changes nothing."""
        if state:
            self._totals.load(state["totals"])
            self._window.load(state["window"])
            self._tokens = self._totals.tokens
            self._cumulative.load(state["cumulative_decay"])
            self._validation = dict(state["validation"])

    def summary(self) -> dict[str, Any]:
        """Return what summary.json says of speed, memory, time and validation. Collective."""
        self._tally(self._step)
        peak = self._peak
        return {
            **self._totals.summary(),
            "peak_tflops": peak.tflops if peak else None,
            "peak_source": peak.source if peak else None,
            "flops_per_token": self._flops_per_token,
            "cumulative_decay_mean": self._cumulative.mean,
            "val_perplexity_published": self._validation.get("val_perplexity_published"),
            "val_tokens": self._validation.get("val_tokens"),
        }

    def close(self) -> None:
        """End the bar, the file and the dashboards."""
        self._tell_trace(self._profile.close, "up to the last step")
        self._progress.close()
        self._attempt.add(self.clock.read())
        self._attempt.note(self._step)
        self.journal.close()

    def _tell_trace(self, write: Callable[[], Path | None], which: str) -> None:
        try:
            trace = write()
        except (OSError, RuntimeError) as error:  # the run is worth more than its trace
            self.message(f"warning: no trace {which}: {error}")
            return
        if trace is not None:
            self.message(f"trace {which} in {trace}")

    def _figures(self, step: int) -> dict[str, Any]:
        """Return what a training line says of the steps since the line before. Collective."""
        used = self._tally(step)
        window = self._window
        self._window = Totals()
        speed = window.summary()
        norms = self._norms.read() if self._norms is not None else {}
        return {
            "tokens_per_second": speed["tokens_per_second"],
            "mfu": speed["mfu"],
            "peak_tflops": self._peak.tflops if self._peak else None,
            "seconds": window.seconds,
            "memory": used,
            "cumulative_decay_mean": self._cumulative.mean,
            **norms,
        }

    def _tally(self, step: int) -> dict[str, float]:
        """Move what the clock has to the window and the totals. Collective.

        Returns the memory of the fullest rank.
        """
        own = self.clock.read()
        self._attempt.add(own)
        used, seconds = over_ranks(memory(self._world.device), own, self._world)
        steps = step - self._timed_step
        self._timed_step = step
        flops = steps * self._positions_per_step * self._flops_per_token
        peak = self._peak.tflops * 1e12 * self._world.size if self._peak else 0.0
        tokens = self._tokens - self._totals.tokens
        for sums in (self._window, self._totals):
            sums.add(tokens, flops, training_seconds(seconds) * peak, seconds, used)
        return used

    def _find_shards(self) -> Shards | None:
        try:
            return Shards(self._engine, self._world)
        except ValueError as error:  # alike on every rank: it is about the configuration
            self.message(f"no weight norms in {METRICS}: {error}")
            return None

    def _write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        if self._world.is_main:
            self._progress.log(self.journal.write(kind, step, values))
