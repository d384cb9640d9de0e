#!/usr/bin/env bash
# Sets the environment up, makes a small click log (on first use), trains on it on 2 ranks and judges the model.
# Arguments are overrides of the config: launch/demo.sh data.batch_size=1024 run.name=mine
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
"$root/launch/setup.sh"
cd "$root"
venv="${MARIGOLD_VENV:-.venv}"
name=demo
dir=runs
for argument in "$@"; do
    [[ $argument != run.name=* ]] || name="${argument#run.name=}"
    [[ $argument != run.dir=* ]] || dir="${argument#run.dir=}"
done
ranks=2
threads=$(($(nproc) / ranks))
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"

"$venv/bin/torchrun" --standalone --nproc-per-node "$ranks" launch/train.py \
    --config configs/ctr_cvr.yaml --resume never run.name=demo "$@"
"$venv/bin/torchrun" --standalone --nproc-per-node "$ranks" launch/evaluate.py \
    --checkpoint "$dir/$name" --out "$dir/$name/report"

cat <<TEXT

The demo is done. Its outputs are in $dir/$name:
  report/report.html     how good the model is, to read in a browser
  summary.json           the final figures
  config.effective.yaml  every setting, as it was used
  metrics.jsonl          the scalars, one line for each logged step
  tensorboard/           the same for: $venv/bin/tensorboard --logdir $dir
  checkpoints/           to go on from
TEXT
