#!/usr/bin/env bash
# Trains on a Cloud TPU pod slice: creates it, installs, runs on every worker, deletes it.
#
#   ./launch_tpu.sh NAME ZONE TYPE -- --config=configs/v2.py:stage1 --out=gs://BUCKET/run1
#   ./launch_tpu.sh pod us-west4-a v5litepod-16 -- --config=configs/tiny.py --out=gs://b/tiny
#
# KEEP=1 leaves the slice running; a second call then reuses it. Never run on a real TPU so far; slices of several hosts
# also need a multi-process start that emojax.train does not make yet.
set -euo pipefail
if [[ $# -lt 5 || $4 != "--" ]]; then
  sed -n '2,8p' "$0" >&2
  exit 2
fi
name=$1 zone=$2 type=$3
shift 4
tpu=(gcloud compute tpus tpu-vm)
if ! "${tpu[@]}" describe "$name" --zone="$zone" >/dev/null 2>&1; then
  "${tpu[@]}" create "$name" --zone="$zone" --accelerator-type="$type" --version="${RUNTIME:-v2-alpha-tpuv5-lite}"
fi
[[ -n "${KEEP:-}" ]] || trap '"${tpu[@]}" delete "$name" --zone="$zone" --quiet' EXIT
archive=$(mktemp --suffix=.tgz)
git archive --format=tar.gz -o "$archive" HEAD
"${tpu[@]}" scp "$archive" "$name:emojax.tgz" --zone="$zone" --worker=all
command="mkdir -p emojax && tar xzf emojax.tgz -C emojax && cd emojax && python3.11 -m venv .venv \
&& .venv/bin/pip install -q -e '.[tpu]' && .venv/bin/python -m emojax.train $(printf '%q ' "$@")"
"${tpu[@]}" ssh "$name" --zone="$zone" --worker=all --command="$command"
