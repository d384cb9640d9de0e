"""Settings that have moved: a config written for an earlier version is refused in one message that
says where to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marigold_rec.config.label_kinds import has_classes

_TRUNK = (
    "name",
    "experts",
    "expert_layers",
    "bottom_layers",
    "levels",
    "shared_experts",
    "task_experts",
)
_MODEL = {key: f"model.trunk.{key}" for key in _TRUNK} | {"head_start": "model.head_bias_init"}
_OTHERS = {
    ("checkpoint", "max_misses"): "checkpoint.max_failed_saves",
    ("balancer", "probe", "oracle"): "balancer.probe.estimator",
}
_TASK = {"method": "head.name", "huber_delta": "head.delta"}


def moved_settings(tree: Mapping[str, Any]) -> list[str]:
    """One line per setting of `tree` that stands where an earlier version had it."""
    return [
        *_of_model(tree.get("model")),
        *_of_tasks(tree.get("tasks")),
        *_of_gate(tree),
        *(
            f"{'.'.join(old)} is called {new} now"
            for old, new in _OTHERS.items()
            if _has(tree, old)
        ),
    ]


def _of_model(model: Any) -> Iterator[str]:
    if isinstance(model, Mapping):
        for key in model:
            if key in _MODEL:
                yield f"model.{key} has moved to {_MODEL[key]}"


def _of_tasks(tasks: Any) -> Iterator[str]:
    found = [task for task in tasks if isinstance(task, Mapping)] if _is_list(tasks) else []
    named_by_label: dict[Any, Any] = {}
    for task in found:
        if task.get("observed_if") is None:
            named_by_label.setdefault(_text(task.get("label")), task.get("name"))
    for number, task in enumerate(found):
        where = f"tasks.{task.get('name', number)}"
        if task.get("kind") == "watch_time":
            yield f"{where}.kind: watch_time is called duration now"
        for key in task:
            if key in _TASK:
                yield f"{where}.{key} has moved to {where}.{_TASK[key]}"
        condition = _text(task.get("observed_if"))
        before = None if condition is None else named_by_label.get(condition)
        if before is not None and task.get("given") is None and has_classes(task.get("kind")):
            yield (
                f"{where}.observed_if: {task['observed_if']} is the label of task {before}: write "
                f"given: {before} instead"
            )


def _of_gate(tree: Mapping[str, Any]) -> Iterator[str]:
    nightly = tree.get("nightly")
    gate = nightly.get("gate") if isinstance(nightly, Mapping) else None
    defaults = gate.get("defaults") if isinstance(gate, Mapping) else None
    if isinstance(defaults, Mapping) and "watch_time" in defaults:
        yield "nightly.gate.defaults.watch_time has moved to nightly.gate.defaults.duration"


def _has(tree: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
