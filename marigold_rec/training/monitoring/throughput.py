"""How fast the run goes, and how much of the time it waits for data and spends on probes."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Rate:
    """Of one logging interval."""

    samples_per_sec: float
    """Over all ranks, counted in full batches."""
    step_time_s: float
    data_wait_frac: float
    probe_frac: float
    """On an accelerator: of the host's time, which runs ahead of the device's."""

    def scalars(self) -> dict[str, float]:
        return {f"perf/{name}": value for name, value in asdict(self).items()}


class Throughput:
    """Measures intervals between logging steps; the first one (warm-up) is left out of medians."""

    def __init__(self, samples_per_step: int) -> None:
        self._samples = samples_per_step
        self._at = time.perf_counter()
        self._step: int | None = None
        self._waited = self._probed = 0.0
        self._rates: list[Rate] = []

    def measure(self, step: int, waited_s: float, probed_s: float) -> Rate | None:
        """The rate since the last call, or None at first; both times are totals so far."""
        now = time.perf_counter()
        rate = None
        if self._step is not None and step > self._step:
            elapsed, steps = now - self._at, step - self._step
            rate = Rate(
                samples_per_sec=steps * self._samples / elapsed,
                step_time_s=elapsed / steps,
                data_wait_frac=(waited_s - self._waited) / elapsed,
                probe_frac=(probed_s - self._probed) / elapsed,
            )
            self._rates.append(rate)
        self._at, self._step = now, step
        self._waited, self._probed = waited_s, probed_s
        return rate

    def summary(self) -> dict[str, float]:
        if not self._rates:
            return {}
        return {
            "perf/samples_per_sec": statistics.median(r.samples_per_sec for r in self._rates),
            "perf/step_time_s": statistics.median(r.step_time_s for r in self._rates),
            "perf/data_wait_frac": statistics.mean(r.data_wait_frac for r in self._rates),
            "perf/probe_frac": statistics.mean(r.probe_frac for r in self._rates),
        }
