"""Runs the balancer's probe around the optimizers' step."""

from __future__ import annotations

from marigold_rec.training.objective import StepOutput
from marigold_rec.training.probing.prober import Lookup, Prober
from marigold_rec.training.step_hook import StepHook
from marigold_rec.training.stopwatch import Stopwatch


class BalancerProbe(StepHook):
    """Hands the prober the context that the forward has left, if the step is to be probed."""

    def __init__(self, prober: Prober, lookup: Lookup) -> None:
        self._prober = prober
        self._lookup = lookup
        self.stopwatch = Stopwatch()
        """The time spent in probes; on an accelerator the host's, which runs ahead."""

    def before_optimizer(self, output: StepOutput) -> None:
        if output.probe_context is not None:
            with self.stopwatch:
                self._prober.before_optimizer(output.probe_context)

    def after_optimizer(self, output: StepOutput) -> None:
        if output.probe_context is not None:
            with self.stopwatch:
                self._prober.after_optimizer(output.probe_context, self._lookup)
