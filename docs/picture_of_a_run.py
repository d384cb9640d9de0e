"""Draws docs/demo.svg, the picture of a run of the demo: run `python docs/picture_of_a_run.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

_ROOT = Path(__file__).resolve().parents[1]
_COMMAND = [
    "torchrun",
    "--standalone",
    "--nproc-per-node",
    "2",
    "launch/train.py",
    "--config",
    "configs/ctr_cvr.yaml",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as runs:
        command = [str(Path(sys.executable).parent / _COMMAND[0]), *_COMMAND[1:], f"run.dir={runs}"]
        found = subprocess.run(
            command, cwd=_ROOT, check=True, text=True, stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        lines = [line.replace(runs, "runs") for line in found.stderr.splitlines()]
    console = Console(record=True, width=140, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text("$ " + " ".join(_COMMAND), style="bold"))
    for line in lines:
        clock, _, rest = line.partition(" INFO ")
        if not rest:
            continue  # torchrun's own lines
        style = "bold cyan" if rest.startswith("evaluation") else "white"
        console.print(Text.assemble((clock + " ", "dim"), (rest, style)), soft_wrap=True)
    drawing = console.export_svg(title="marigold_rec")
    # The picture shall load nothing: any monospace font will do.
    drawing = re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)
    (_ROOT / "docs" / "demo.svg").write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
