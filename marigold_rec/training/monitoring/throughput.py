"""Measures how fast the run goes, and its shares of waiting for data and of probing."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass

from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook
from marigold_rec.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class _Rate:
    """Describes one logging interval."""

    samples_per_sec: float
    """Over all ranks, counted in full batches."""
    step_time_s: float
    data_wait_frac: float
    probe_frac: float
    """Share of the host's time, which runs ahead of an accelerator's."""


class Throughput(StepHook):
    """Measures intervals between logging steps; the first one (warm-up) is left out."""

    def __init__(self, samples_per_step: int, data_wait: Stopwatch, probing: Stopwatch) -> None:
        self._samples = samples_per_step
        self._data_wait, self._probing = data_wait, probing
        self._at = time.perf_counter()
        self._step: int | None = None
        self._waited_s = self._probed_s = 0.0
        self._rates: list[_Rate] = []

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        """Returns perf/* of the interval since the last logging step; nothing at the first one."""
        now, waited_s, probed_s = (
            time.perf_counter(),
            self._data_wait.seconds,
            self._probing.seconds,
        )
        scalars: Scalars = {}
        if self._step is not None and step > self._step:
            elapsed_s, steps = now - self._at, step - self._step
            rate = _Rate(
                samples_per_sec=steps * self._samples / elapsed_s,
                step_time_s=elapsed_s / steps,
                data_wait_frac=(waited_s - self._waited_s) / elapsed_s,
                probe_frac=(probed_s - self._probed_s) / elapsed_s,
            )
            self._rates.append(rate)
            scalars = {f"perf/{name}": value for name, value in asdict(rate).items()}
        self._at, self._step = now, step
        self._waited_s, self._probed_s = waited_s, probed_s
        return scalars

    def summary(self) -> dict[str, float]:
        """Returns medians of speed and means of shares over the intervals."""
        if not self._rates:
            return {}
        return {
            "perf/samples_per_sec": statistics.median(r.samples_per_sec for r in self._rates),
            "perf/step_time_s": statistics.median(r.step_time_s for r in self._rates),
            "perf/data_wait_frac": statistics.mean(r.data_wait_frac for r in self._rates),
            "perf/probe_frac": statistics.mean(r.probe_frac for r in self._rates),
        }
