#!/usr/bin/env bash
# The life of a champion, from training to a moved folder, with real commands in a clone of this repository.
#
#   docs/story/run.sh    writes docs/story/story.md; 4 minutes on two cores
#
# What it promotes is learnt from scikit-learn's digits in three settings of params.yaml: a poor one, a worse one and a good one.
set -uo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
out=$here/docs/story/story.md
server=""
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
export PATH=$here/.venv/bin:$PATH MLFLOW_DISABLE_TELEMETRY=true PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1

enter() { cd "$1" && export PYTHONPATH=$1/src; }
say() { printf '\n%s\n' "$*" | tee -a "$out"; }
# Run a command and write it down with its output; a line for the exit code where it is not 0.
run() {
  local code
  printf '\n```\n$ %s\n' "$*" | tee -a "$out"
  bash -c "$*" >"$work/said" 2>&1
  code=$?
  sed -e "s#$work#~#g; s#$(id -un)@$(hostname)#you@here#g" "$work/said" | grep -v 'it/s\]\|?it/s\|^$' | cut -c1-400 | tee -a "$out"
  [ $code -ne 0 ] && printf '(exit code %s)\n' $code | tee -a "$out"
  printf '```\n' | tee -a "$out"
}
# Train and register with the settings given as YAML, which are laid over params.yaml; the log is not part of the story.
train() {
  python - "$1" <<'END'
import sys
from pathlib import Path
import yaml

def laid_over(old, new):
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: laid_over(old.get(key), value) for key, value in new.items()}

path = Path("params.yaml")
path.write_text(yaml.safe_dump(laid_over(yaml.safe_load(path.read_text()), yaml.safe_load(sys.argv[1])), sort_keys=False))
END
  git -c user.name=you -c user.email=you@here commit --quiet --all --message "$2"
  dvc repro >"$work/repro.log" 2>&1 || { tail -30 "$work/repro.log"; exit 1; }
  grep 'is the challenger' "$work/repro.log" | sed 's/^/    /' | tee -a "$out"
}

git clone --quiet "$here" "$work/project"
enter "$work/project"
printf '# A story\n\nWritten by `docs/story/run.sh` on %s: every line below a `$` was printed by the command.\n' "$(date +%F)" >"$out"

say "## A first model"
say "A deliberately poor setting: one epoch. There is no champion to compare with, so floors decide."
train '{
  search: {n_trials: 1, seed: 1, space: {train.epochs: {low: 1, high: 50}}}, select: {top_k: 1, seeds: 1}, train: {epochs: 1},
  gate: {min_accuracy: 0.5, min_recall: 0.0, max_calibration_error: 1.0, max_calibration_rise: 0.2, max_latency_ms: 1000.0}}' "a poor setting"
run podium promote

say "## A worse challenger is refused"
say "A tenth of the learning rate."
train '{search: {seed: 2, space: {train.learning_rate: {low: 1.0e-4, high: 4.0e-4, log: true}}}, train: {learning_rate: 0.0003}}' "a worse setting"
run podium promote

say "## A better one is promoted"
say "The starting configuration of params.yaml, twenty epochs."
train '{search: {seed: 3, space: {train.learning_rate: {low: 1.0e-5, high: 1.0e-1, log: true}}}, train: {epochs: 20, learning_rate: 0.003}}' "a good setting"
run podium promote --dry-run
run podium promote
run podium history --check

say "## Against the verdict"
say "The worse one, because somebody needs it today: it moves, and the ledger marks it permanently. Then the better one again."
run 'podium promote 2 --force --reason "the only one that was tried on the new scanner"'
run podium promote 3

say "## An edit by hand is detected"
say "Somebody moves the alias in MLflow's pages, past the gate."
run "python -c \"from mlflow import MlflowClient; MlflowClient('sqlite:///mlruns/mlflow.db').set_registered_model_alias('digits-classifier', 'champion', '1')\""
run podium history --check
say "And somebody changes a reason in the ledger."
run "python -c \"
from mlflow import MlflowClient
client = MlflowClient('sqlite:///mlruns/mlflow.db')
key = 'podium.ledger.000001'
text = client.get_registered_model('digits-classifier').tags[key]
client.set_registered_model_tag('digits-classifier', key, text.replace('accuracy 0', 'accuracy 1'))\""
run podium history --check
say "The better version can't be promoted once more: after so many accesses to this test set, so few errors are no longer evidence enough. It was champion before, so it comes back by a rollback; the ledger keeps what was found."
run podium promote 3
run 'podium rollback --to 3 --reason "the alias was moved by hand"'
run podium history

say "## A corrupted version is refused at rollback"
say "A byte of the network of version 2, which was champion too, changes on disk."
run "python - <<'END'
from pathlib import Path
from mlflow import MlflowClient
place = MlflowClient('sqlite:///mlruns/mlflow.db').get_model_version_download_uri('digits-classifier', '2')
graph = Path(place.removeprefix('file://')) / 'artifacts/model/model.pt2'
content = bytearray(graph.read_bytes())
content[len(content) // 2] ^= 1
graph.write_bytes(content)
END"
run 'podium rollback --to 2 --reason "confuses 1 and 7 on the new scanner"'
say "## Nor to a version whose entry in the ledger was edited"
run 'podium rollback --to 1 --reason "confuses 1 and 7 on the new scanner"'
run 'podium rollback --to 3 --reason "it was the scanner"'

say "## Where it comes from, and again, bit for bit"
run podium lineage 3
run podium verify 3
run podium reproduce 3

say "## The folder is moved, and serves again"
cd "$work" && mv project moved && enter "$work/moved"
run podium relocate
podium serve >"$work/server.log" 2>&1 &
server=$!
python - <<'END'
from sklearn.datasets import load_digits
import numpy as np
from PIL import Image
Image.fromarray(np.rint(load_digits().images[0] * (255 / 16)).astype(np.uint8)).save("digit.png")
END
for _ in $(seq 600); do curl -sf -o "$work/ping" http://127.0.0.1:5001/ping && break; kill -0 $server || { cat "$work/server.log"; exit 1; }; sleep 0.2; done
run podium predict digit.png
run "curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d '{\"dataframe_records\": [{\"image\": \"'\$(base64 -w0 digit.png)'\"}]}'"
run "curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d '{\"dataframe_records\": [{\"image\": \"aGVsbG8=\"}]}' | python -c 'import json, sys; print(json.load(sys.stdin)[\"message\"].splitlines()[-1])'"
run podium history --check
