"""The train wrapper, the loop, and what a run writes."""

from marigold_rec.training.evaluation import Evaluation, evaluate
from marigold_rec.training.monitoring.rank_totals import peak_memory, total_counts
from marigold_rec.training.monitoring.run_log import LOGGER, RunLog, start_logging, write_summary
from marigold_rec.training.objective import Objective, StepOutput
from marigold_rec.training.scoring import ScoreFolder, predictions, write_scores
from marigold_rec.training.state import load_model
from marigold_rec.training.stop import StopRequest, stop_on_signals
from marigold_rec.training.train_module import TrainModule
from marigold_rec.training.trainer import Outcome, Trainer

__all__ = [
    "LOGGER",
    "Evaluation",
    "Objective",
    "Outcome",
    "RunLog",
    "ScoreFolder",
    "StepOutput",
    "StopRequest",
    "TrainModule",
    "Trainer",
    "evaluate",
    "load_model",
    "peak_memory",
    "predictions",
    "start_logging",
    "stop_on_signals",
    "total_counts",
    "write_scores",
    "write_summary",
]
