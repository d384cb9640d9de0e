"""Fixed seeds for every test; the slow and gpu marks; hypothesis' profiles."""

from __future__ import annotations

import os
import random
import sys

import pytest
from hypothesis import settings

settings.register_profile("person", deadline=None)
# In CI the same examples on each run: a red run is then the change's fault.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "person")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """The global generators start from the same place in each test, whatever ran before."""
    random.seed(0)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(0)  # noqa: NPY002 - libraries draw from the global generator
    if "torch" in sys.modules:  # no need to pay for its import in tests that go without
        import torch

        torch.manual_seed(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("markexpr") or ""
    run_slow = os.environ.get("MARIGOLD_SLOW", "0") not in ("", "0") or "slow" in chosen
    gpu_marked = [item for item in items if item.get_closest_marker("gpu")]
    has_gpu = bool(gpu_marked) and _has_gpu()
    for item in items:
        if item.get_closest_marker("slow") and not run_slow:
            item.add_marker(pytest.mark.skip(reason="slow: MARIGOLD_SLOW=1 or -m slow runs it"))
    for item in gpu_marked:
        if not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
