"""Draws docs/demo.svg: what a person sees of the demo. `python docs/picture_of_a_run.py`"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

_ROOT = Path(__file__).resolve().parents[1]
_COMMAND = (
    "torchrun --standalone --nproc-per-node 2 launch/train.py --config configs/ctr_cvr.yaml".split()
)


def main() -> None:
    with tempfile.TemporaryDirectory() as runs:
        command = [str(Path(sys.executable).parent / _COMMAND[0]), *_COMMAND[1:], f"run.dir={runs}"]
        found = subprocess.run(
            command, cwd=_ROOT, check=True, text=True, stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        lines = [line.replace(runs, "runs") for line in found.stderr.splitlines()]
    console = Console(record=True, width=132, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text("$ " + " ".join(_COMMAND), style="bold"))
    for line in lines:
        clock, _, rest = line.partition(" INFO ")
        if not rest:
            continue  # torchrun's own lines
        style = "bold cyan" if rest.startswith("evaluation") else ""
        console.print(Text(clock + " ", style="dim") + Text(rest, style=style), soft_wrap=True)
    console.save_svg(str(_ROOT / "docs" / "demo.svg"), title="marigold_rec")


if __name__ == "__main__":
    main()
