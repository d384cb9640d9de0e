"""What bends MARIGOLD's step away from the weighted sum; one file each."""

from marigold_rec.balancing.directions.cagrad import CAGradDirection
from marigold_rec.balancing.directions.direction import Along, Direction
from marigold_rec.balancing.directions.primary import PrimaryDirection
from marigold_rec.balancing.directions.sdmgrad import SDMGradDirection
from marigold_rec.config.balancers import MarigoldBalancerConfig


def build_directions(
    config: MarigoldBalancerConfig, task_names: tuple[str, ...]
) -> list[Direction]:
    """In the order in which they bend k."""
    directions: list[Direction] = []
    strength, primary = config.regulariser_strength, config.primary
    if config.regulariser == "sdmgrad":
        directions.append(SDMGradDirection(strength))
    elif config.regulariser == "cagrad":
        directions.append(CAGradDirection(strength, len(task_names), config.probe))
    if primary is not None:
        task = task_names.index(primary.task)
        directions.append(PrimaryDirection(task, len(task_names), primary.min_share, primary.lr))
    return directions


__all__ = [
    "Along",
    "CAGradDirection",
    "Direction",
    "PrimaryDirection",
    "SDMGradDirection",
    "build_directions",
]
