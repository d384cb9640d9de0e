"""The upper level: how the tasks' losses are weighed. One file per balancer, one line here."""

from marigold_rec.balancing.balancer import Balancer, Probe
from marigold_rec.balancing.marigold import Marigold
from marigold_rec.balancing.static import Static
from marigold_rec.config.schema import Config

BALANCERS = {
    "static": Static,
    "marigold": Marigold,
}


def build_balancer(config: Config) -> Balancer:
    """The balancer that `config.balancer` names, for the config's tasks."""
    return BALANCERS[config.balancer.name](config.balancer, config.task_names)  # pyright: ignore[reportArgumentType]


__all__ = ["BALANCERS", "Balancer", "Marigold", "Probe", "Static", "build_balancer"]
