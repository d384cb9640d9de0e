"""The upper level: how the tasks' losses are weighed. One file per balancer, one line here."""

from collections.abc import Callable
from typing import Any

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.balancing.dwa import DWA
from marigold_rec.balancing.famo import Famo
from marigold_rec.balancing.inverse_loss import InverseLoss
from marigold_rec.balancing.marigold import Marigold
from marigold_rec.balancing.probe import Probe
from marigold_rec.balancing.static import Static
from marigold_rec.balancing.torchjd import TorchJD
from marigold_rec.balancing.uncertainty import Uncertainty
from marigold_rec.config.schema import Config

BALANCERS: dict[str, Callable[[Any, tuple[str, ...]], Balancer]] = {
    "static": Static,
    "marigold": Marigold,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "inverse_loss": InverseLoss,
    "famo": Famo,
    "torchjd": TorchJD,
}
"""Name in the config (`balancer.name`) -> class."""


def build_balancer(config: Config) -> Balancer:
    """The balancer that `config.balancer` names, for the config's tasks."""
    return BALANCERS[config.balancer.name](config.balancer, config.task_names)


__all__ = ["BALANCERS", "Balancer", "Marigold", "Probe", "Static", "build_balancer"]
