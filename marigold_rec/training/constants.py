"""What loss terms treat as constants, recorded in the training forward and replayed by a probe.

An inverse propensity weight, say, depends on the model but gets no gradient. If a probe computed it
anew at the moved point, the losses' difference would hold its change too, and would not be the
derivative of what was back-propagated.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from marigold_rec.contracts import StopGradient


class Constants:
    """The constants of one forward, in the order in which the terms asked for them."""

    def __init__(self) -> None:
        self._recorded: list[Tensor] = []

    def record(self, value: Tensor) -> Tensor:
        """Detaches `value` and remembers it: `contracts.StopGradient` of the training forward."""
        self._recorded.append(value.detach())
        return self._recorded[-1]

    def replay(self, num_rows: int) -> StopGradient:
        """A `contracts.StopGradient` that gives the first `num_rows` rows of what was recorded, in
        the same order: for one more forward of the same terms."""
        recorded: Iterator[Tensor] = iter(self._recorded)

        def stop_gradient(value: Tensor) -> Tensor:
            constant = next(recorded, None)
            assert constant is not None, "a loss term asked for more constants than in training"
            return constant[:num_rows] if constant.dim() else constant

        return stop_gradient
