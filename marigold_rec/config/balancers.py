"""The balancers' sections: `balancer:` in the config (see docs/marigold.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from marigold_rec.config.section import Section


class StaticBalancerConfig(Section):
    """Fixed task weights, taken as they are."""

    name: Literal["static"]
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Task name -> weight; tasks not named weigh 1."""


class ProbeConfig(Section):
    """How a balancer finds out how fast each task descends along the step (docs/marigold.md)."""

    every_n_steps: int = Field(default=10, ge=1)
    """One probe (an extra dense forward) per n."""
    warmup_steps: int = Field(default=0, ge=0)
    """The first n steps are all probed, for short runs: the losses change most there. Not with
    batch: next."""
    scope: Literal["representation", "shared_parameters", "update"] = "representation"
    """What is moved: the pooled embeddings, the dense parameters that several tasks share, or
    everything, by the optimizers' real step (a full forward, with lookups)."""
    estimator: Literal["forward_difference", "central_difference", "jvp", "exact"] = (
        "forward_difference"
    )
    """central_difference: two forwards; jvp: forward-mode derivative; exact: a backward per task,
    for reference only."""
    batch: Literal["same", "next"] = "same"
    """next: along this step's direction, on the next batch's rows, which has no part of their noise
    in it. Needs scope shared_parameters."""
    rows: float = Field(default=1.0, gt=0, le=1)
    """Share of a rank's rows that the probe looks at."""
    step: float | None = Field(default=None, gt=0)
    """Size of the finite difference: root mean square over rows of their move in the representation
    (null: 0.002), or length of the move of the parameters (null: 0.01)."""
    adapt_step: bool = True
    """Shrink or grow the step when the self-check is off by over 2 %."""

    def is_due(self, step: int) -> bool:
        """Whether step `step`, counted from 0, is probed."""
        warms_up = self.batch == "same" and step < self.warmup_steps
        return warms_up or step % self.every_n_steps == 0

    @model_validator(mode="after")
    def _fits(self) -> ProbeConfig:
        if self.batch == "next" and self.scope != "shared_parameters":
            raise ValueError(
                f"batch: next can't go with scope: {self.scope}: its direction belongs to this "
                "batch's rows; set scope: shared_parameters, or batch: same"
            )
        if self.batch == "next" and self.every_n_steps == 1:
            raise ValueError(
                "batch: next can't go with every_n_steps: 1: a direction is measured one step "
                "later, under the weights that made it; set every_n_steps: 2 or more"
            )
        if self.rows < 1 and self.scope == "shared_parameters":
            raise ValueError(
                "rows below 1 can't go with scope: shared_parameters, whose direction is that of "
                "all rows: the sample's own noise would drown the descent; set rows: 1"
            )
        if self.scope == "update":
            for key, default in (
                ("estimator", "forward_difference"),
                ("rows", 1.0),
                ("step", None),
            ):
                if getattr(self, key) != default:
                    raise ValueError(
                        f"{key} has no meaning with scope: update, which compares the losses "
                        f"before and after the optimizers' step; leave {key} out"
                    )
        if self.estimator == "exact" and self.batch == "next":
            raise ValueError("estimator: exact is for reference only and needs batch: same")
        return self


class PrimaryTask(Section):
    """A task that the step must not harm: its weight is raised until the others leave it alone."""

    task: str
    min_share: float = Field(default=0.0, ge=0, lt=1)
    """Least share of the joint descent; 0: it must not rise."""
    lr: float = Field(default=0.1, gt=0)
    """Step of the dual ascent."""


class MarigoldBalancerConfig(Section):
    """Balance the tasks' descent along the step that is being taken (see docs/marigold.md)."""

    name: Literal["marigold"]
    alpha: float | None = Field(default=None, gt=0)
    """Fairness: 1 Nash-MTL, 2 FairGrad, null: infinity (MGDA, min-norm)."""
    log_losses: bool = True
    """Balance log f_i (relative descent), not f_i."""
    prior: Literal["tasks", "labels"] = "tasks"
    """What counts alike at equal weights: every task's mean loss, or every observed label,
    whichever task it is of (the joint likelihood)."""
    lr: float = Field(default=0.05, gt=0)
    """Step of the weight update, in log-weight units."""
    ema: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Decay of the running mean of h."""
    min_weight: float = Field(default=0.01, ge=0, lt=1)
    """Floor of a task's share of weight."""
    preference: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Task name -> preference; tasks not named have 1."""
    regulariser: Literal["none", "sdmgrad", "cagrad"] = "none"
    """Keeps the step near the mean gradient: by a fixed share of it (SDMGrad), or by a ball around
    it (CAGrad)."""
    regulariser_strength: float = Field(default=0.4, ge=0)
    """SDMGrad's lambda or CAGrad's c."""
    primary: PrimaryTask | None = None
    probe: ProbeConfig = ProbeConfig()


class UncertaintyBalancerConfig(Section):
    """Learned noise of each task (Kendall, Gal, Cipolla 2018)."""

    name: Literal["uncertainty"]
    lr: float = Field(default=1e-3, gt=0)
    """Of Adam, on the log-variances."""


class DWABalancerConfig(Section):
    """Dynamic weight average: more weight where the loss falls slowly (Liu et al. 2019)."""

    name: Literal["dwa"]
    interval_steps: int = Field(default=100, ge=1)
    """Losses are averaged over intervals of this many steps."""
    temperature: float = Field(default=2.0, gt=0)


class InverseLossBalancerConfig(Section):
    """Each loss divided by its own running mean: all tasks weigh alike, whatever their units."""

    name: Literal["inverse_loss"]
    ema: float = Field(default=0.99, ge=0.0, lt=1.0)
    """Decay of the running mean."""


class FamoBalancerConfig(Section):
    """Fast adaptive multitask optimization (Liu et al. 2023)."""

    name: Literal["famo"]
    lr: float = Field(default=0.025, gt=0)
    """Of Adam, on the logits."""
    weight_decay: float = Field(default=1e-3, ge=0)
    """Pulls the logits to 0."""
    every_n_steps: int = Field(default=1, ge=1)
    """One extra full forward per n; the paper's method is 1."""


class TorchJDBalancerConfig(Section):
    """A TorchJD aggregator at the representation, by one backward per task down to there."""

    name: Literal["torchjd"]
    aggregator: Literal[
        "aligned_mtl", "dualproj", "fairgrad", "imtl_g", "mgda", "nash_mtl", "pcgrad", "upgrad"
    ]
    log_losses: bool = False
    """Aggregate the gradients of log f_i."""


Balancer = Annotated[
    StaticBalancerConfig
    | MarigoldBalancerConfig
    | UncertaintyBalancerConfig
    | DWABalancerConfig
    | InverseLossBalancerConfig
    | FamoBalancerConfig
    | TorchJDBalancerConfig,
    Field(discriminator="name"),
]
