#!/usr/bin/env bash
# Trains on a Cloud TPU slice: finds or creates it, copies the code, installs, starts every worker, follows the log, starts
# again after preemption, and takes the slice down at the end.
#
#   ./launch_tpu.sh NAME ZONE TYPE -- --config=configs/v2.py:stage1_pod --config.train.init_from=/mnt/models/start \
#       --data=/mnt/data/built --cache=/mnt/data/cache --out=gs://BUCKET/run1
#   ./launch_tpu.sh pod us-west4-a v5litepod-16 --spot --keep -- --config=configs/tiny.py --out=gs://b/tiny
#   ./launch_tpu.sh --local 2 -- --config=configs/tiny.py:test --out=runs/two
#
# What a run reads (weights to start from, --data, --cache) must lie at the same path on every worker: a bucket mounted with
# gcsfuse, or an attached disk. What it writes must outlast the slice: --out in a bucket or below /mnt, or --keep.
#
# Before the two dashes:
#   --dry-run       prints each command that a first, undisturbed run would give, and does nothing
#   --local N       N real JAX processes on this machine (CPU devices), through the same start; --devices D of each (default 4)
#   --queued        by a queued resource (waits for capacity) instead of creating the slice at once
#   --spot          preemptible capacity
#   --slices K      K slices in one run (implies --queued); the config's mesh needs a data axis of K
#   --runtime V     TPU software version (default: by type)
#   --project P     Google Cloud project
#   --keep          leaves the slice running at the end; a later call with the same name reuses it
#   --down          only takes the slice down
#   --retries R     starts again after a preemption, R times at most (default 20)
#
# Exit code: that of the training; 143 of a worker (stopped and saved) and a slice that is gone count as preemption.
# Tested against a stand-in for gcloud; never run on a real TPU so far.
set -euo pipefail

usage() { sed -n '2,27p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }

wrong() { echo "launch: $*" >&2; exit 2; }
word() { # the value of an option
  [[ $# -ge 2 && $2 != --* ]] || wrong "$1 wants a value"
  echo "$2"
}
number() { # a whole number of at least `least`
  [[ ${2:-} =~ ^[0-9]{1,6}$ && 10#$2 -ge ${least:-1} ]] || wrong "$1 wants a whole number from ${least:-1} on, not '${2:-}'"
  echo "$((10#$2))"
}

dry="" local_count="" devices=4 queued="" spot="" slices=1 runtime="" project="" keep="" down="" retries=20
place=()
while [[ $# -gt 0 && $1 != "--" ]]; do
  case $1 in
    --help) usage ;;
    --dry-run) dry=1 ;;
    --local) local_count=$(number "$@"); shift ;;
    --devices) devices=$(number "$@"); shift ;;
    --queued) queued=1 ;;
    --spot) spot=1 ;;
    --slices) slices=$(number "$@"); queued=1; shift ;;
    --runtime) runtime=$(word "$@"); shift ;;
    --project) project=$(word "$@"); shift ;;
    --keep) keep=1 ;;
    --down) down=1 ;;
    --retries) retries=$(least=0 number "$@"); shift ;;
    -*) wrong "there is no option $1 (--help has them)" ;;
    *) place+=("$1") ;;
  esac
  shift
done
[[ $# -gt 0 ]] && shift
arguments=("$@")

cd "$(dirname "$0")"
say() { echo "launch: $*" >&2; }
quote() { printf '%q ' "$@"; }
do_it() { # prints a command in a dry run, else runs it
  if [[ -n $dry ]]; then quote "$@"; echo; else "$@"; fi
}

# --- this machine -------------------------------------------------------------------------------------------------

if [[ -n $local_count ]]; then
  [[ ${#arguments[@]} -gt 0 ]] || usage
  python=${PYTHON:-.venv/bin/python}
  port=${PORT:-$((20000 + RANDOM % 20000))}
  workers=()
  for ((i = 0; i < local_count; i++)); do
    start=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices" "EMOJAX_COORDINATOR=localhost:$port"
      "EMOJAX_PROCESSES=$local_count" "EMOJAX_PROCESS=$i" "$python" -m emojax.train "${arguments[@]}")
    if [[ -n $dry ]]; then do_it "${start[@]}"; continue; fi
    if [[ $i -eq 0 ]]; then "${start[@]}" & else "${start[@]}" >/dev/null & fi
    workers+=($!)
  done
  [[ -z $dry ]] || exit 0
  trap 'kill -TERM "${workers[@]}" 2>/dev/null || true' TERM INT
  code=0
  while [[ ${#workers[@]} -gt 0 ]]; do
    left=()
    for worker in "${workers[@]}"; do
      if kill -0 "$worker" 2>/dev/null; then left+=("$worker"); continue; fi
      own=0
      wait "$worker" || own=$?
      [[ $own -eq 0 || $code -ne 0 ]] || code=$own
    done
    workers=("${left[@]}")
    # One that failed leaves the others waiting for it in vain; one that stopped on request does not.
    if [[ $code -ne 0 && $code -ne 143 && ${#workers[@]} -gt 0 ]]; then kill -KILL "${workers[@]}" 2>/dev/null || true; fi
    sleep 0.2
  done
  exit "$code"
fi

# --- a slice ------------------------------------------------------------------------------------------------------

[[ ${#place[@]} -eq 3 ]] || usage
[[ -n $down || ${#arguments[@]} -gt 0 ]] || usage
name=${place[0]} zone=${place[1]} type=${place[2]}
[[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] || wrong "a slice's name has small letters, digits and dashes: '$name'"
[[ $type =~ ^v[2-9][a-z]*-[0-9]+$ ]] || wrong "'$type' is no type of slice, as v5litepod-16, v5p-8 or v4-16"
if [[ -z $down ]]; then
  config="" out=""
  for argument in "${arguments[@]}"; do
    case $argument in
      --config=*) config=${argument#--config=} ;;
      --out=*) out=${argument#--out=} ;;
    esac
  done
  [[ -n $config ]] || wrong "behind the two dashes stands what emojax.train takes; --config=FILE is missing"
  [[ -f $config || -f ${config%%:*} ]] || wrong "there is no configuration ${config%%:*} here"
  # The slice is deleted at the end, and its disks with it.
  [[ -n $keep || $out == *://* || $out == /mnt/* ]] || wrong "the model would be lost with the slice: --out=gs://..., a path below /mnt, or --keep"
fi
if [[ -z $runtime ]]; then
  case $type in
    v6e*) runtime=v2-alpha-tpuv6e ;;
    v5p*) runtime=v2-alpha-tpuv5 ;;
    v5lite* | v5e*) runtime=v2-alpha-tpuv5-lite ;;
    *) runtime=tpu-ubuntu2204-base ;;
  esac
fi
where=(--zone="$zone")
[[ -z $project ]] || where+=(--project="$project")
tpu=(gcloud compute tpus tpu-vm)
queue=(gcloud compute tpus queued-resources)
nodes=("$name")
if [[ $slices -gt 1 ]]; then
  nodes=()
  for ((i = 0; i < slices; i++)); do nodes+=("$name-$i"); done
fi

state() { # READY, PREEMPTED, ... or nothing where there is no such slice
  if [[ -n $dry ]]; then return 0; fi
  "${tpu[@]}" describe "$1" "${where[@]}" --format='value(state)' 2>/dev/null || true
}

state_of_all() { # READY where all are, else the first other state
  local node own
  for node in "${nodes[@]}"; do
    own=$(state "$node")
    if [[ $own != READY ]]; then echo "$own"; return; fi
  done
  echo READY
}

delete_all() {
  if [[ -n $queued ]]; then
    do_it "${queue[@]}" delete "$name" "${where[@]}" --force --quiet
  else
    do_it "${tpu[@]}" delete "$name" "${where[@]}" --quiet
  fi
}

create() {
  local options=(--accelerator-type="$type")
  if [[ -n $queued ]]; then
    options+=(--runtime-version="$runtime")
    [[ -z $spot ]] || options+=(--spot)
    if [[ $slices -gt 1 ]]; then options+=(--node-count="$slices" --node-prefix="$name"); else options+=(--node-id="$name"); fi
    do_it "${queue[@]}" create "$name" "${where[@]}" "${options[@]}"
    [[ -z $dry ]] || return 0
    local status
    while true; do
      status=$("${queue[@]}" describe "$name" "${where[@]}" --format='value(state.state)')
      case $status in
        ACTIVE) return 0 ;;
        FAILED | SUSPENDED | SUSPENDING) say "the queued resource is $status"; return 1 ;;
      esac
      say "waiting for capacity ($status)"
      sleep "${POLL:-30}"
    done
  fi
  options+=(--version="$runtime")
  [[ -z $spot ]] || options+=(--preemptible)
  do_it "${tpu[@]}" create "$name" "${where[@]}" "${options[@]}"
}

find_or_create() {
  local found
  found=$(state_of_all)
  case $found in
    READY) say "reuses $name" ;;
    "")
      say "creates $name ($type)"
      # A queued resource outlives its slice, and would be in the way.
      if [[ -n $queued && -z $dry && $attempt -gt 0 ]]; then delete_all || true; fi
      create
      ;;
    CREATING | STARTING | REPAIRING | RESTARTING)
      say "$name is $found"
      sleep "${POLL:-30}"
      find_or_create
      ;;
    *) say "$name is $found: made anew"; delete_all; create ;;
  esac
}

archive=emojax.tgz
push() { # the committed state, with the commit's name: a pod has no repository
  if [[ -z $dry ]]; then
    git diff --quiet HEAD || say "note: changes that are not committed are not sent"
    local box
    box=$(mktemp -d)
    git archive --format=tar HEAD >"$box/emojax.tar"
    git rev-parse HEAD >"$box/COMMIT"
    tar -rf "$box/emojax.tar" -C "$box" COMMIT
    gzip -c "$box/emojax.tar" >"$archive"
    rm -r "$box"
  fi
  local node
  for node in "${nodes[@]}"; do
    do_it "${tpu[@]}" scp "$archive" "$node:emojax.tgz" "${where[@]}" --worker=all || return
    do_it "${tpu[@]}" ssh "$node" "${where[@]}" --worker=all \
      --command="mkdir -p emojax && tar xzf emojax.tgz -C emojax && cd emojax && (test -x .venv/bin/python || python3.11 -m venv .venv || { rm -rf .venv && python3 -m pip install -q --user uv && python3 -m uv venv -q --seed --python 3.11 .venv; }) && .venv/bin/pip install -q -e .[tpu]"
  done
  [[ -n $dry ]] || rm -f "$archive"
}

train() { # on every worker of every slice at once; the log of worker 0 of the first slice is followed
  # A lost connection may have left the last start running: it would hold the chips.
  local command="cd emojax && { test ! -f train.pid || { kill -TERM \$(cat train.pid) && sleep 20; } ; } 2>/dev/null; echo \$\$ >train.pid; EMOJAX_DISTRIBUTED=auto exec .venv/bin/python -m emojax.train $(quote "${arguments[@]}")" jobs=() node code=0 own
  for node in "${nodes[@]}"; do
    if [[ -n $dry || $node == "${nodes[0]}" ]]; then
      do_it "${tpu[@]}" ssh "$node" "${where[@]}" --worker=all --command="$command" &
    else
      "${tpu[@]}" ssh "$node" "${where[@]}" --worker=all --command="$command" >/dev/null &
    fi
    jobs+=($!)
    [[ -z $dry ]] || wait
  done
  [[ -z $dry ]] || return 0
  for job in "${jobs[@]}"; do
    own=0
    wait "$job" || own=$?
    [[ $own -eq 0 || $code -ne 0 ]] || code=$own
  done
  return "$code"
}

if [[ -n $down ]]; then delete_all; exit; fi
finish() {
  [[ -z $keep ]] || return 0
  say "takes $name down"
  delete_all || say "could not take $name down (gone already?)"
}
trap finish EXIT

for ((attempt = 0; ; attempt++)); do
  code=0
  find_or_create
  if push; then train || code=$?; else code=255; fi
  [[ $code -ne 0 ]] || break
  found=$(state_of_all)
  # A failure of the program itself comes again: only lost machines are worth another start.
  if [[ $found == READY && $code -ne 143 && $code -ne 255 ]]; then
    say "training failed with $code"
    exit "$code"
  fi
  if [[ $attempt -ge $retries ]]; then
    say "gave up after $retries restarts"
    exit "$code"
  fi
  say "preempted (${found:-gone}, exit code $code); starts again from the last checkpoint"
  sleep "${POLL:-30}"
done
