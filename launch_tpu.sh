#!/usr/bin/env bash
# Trains on a Cloud TPU slice: finds or creates it, copies and installs the code, starts every worker,
# prints the log, restarts after a preemption, and deletes the slice at the end.
#
#   ./launch_tpu.sh NAME ZONE TYPE -- --config=configs/v2.py:stage1_pod --config.train.init_from=/mnt/models/start \
#       --data=/mnt/data/built --cache=/mnt/data/cache --out=gs://BUCKET/run1
#   ./launch_tpu.sh pod us-west4-a v5litepod-16 --spot --keep -- --config=configs/tiny.py --out=gs://b/tiny
#   ./launch_tpu.sh --local 2 -- --config=configs/tiny.py:test --out=runs/two
#
# The input of a run (initial weights, --data, --cache) must have the same path on every worker: a bucket
# mounted with gcsfuse, or an attached disk. The output must outlast the slice: --out in a bucket or below
# /mnt, or --keep.
#
# Options before the two dashes:
#   --dry-run       print the commands of a first, undisturbed run, and run none of them
#   --local N       N JAX processes on this machine (CPU devices), started in the same way; each has
#                   --devices D devices (default 4)
#   --queued        use a queued resource (waits for capacity) instead of creating the slice at once
#   --spot          preemptible capacity
#   --slices K      K slices in one run (implies --queued); the mesh of the configuration needs a data axis of K
#   --runtime V     TPU software version (default: depends on TYPE)
#   --project P     Google Cloud project
#   --keep          keep the slice at the end; a later call with the same name uses it again
#   --down          only delete the slice
#   --retries R     restart at most R times after preemptions (default 20)
#
# Exit code: that of the training. A missing slice, exit code 143 (training stopped and saved) and exit code 255
# (connection or copy failed) count as preemptions. Tested against a stand-in for gcloud; not yet run on a real TPU.
set -euo pipefail

usage() { sed -n '2,28p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }

wrong() { echo "launch: $*" >&2; exit 2; }
word() { # the value of an option
  [[ $# -ge 2 && $2 != --* ]] || wrong "$1 needs a value"
  echo "$2"
}
number() { # a whole number of at least `least`
  [[ ${2:-} =~ ^[0-9]{1,6}$ && 10#$2 -ge ${least:-1} ]] || wrong "$1 must be a whole number of at least ${least:-1}, not '${2:-}'"
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
    -*) wrong "there is no option $1 (--help lists the options)" ;;
    *) place+=("$1") ;;
  esac
  shift
done
[[ $# -gt 0 ]] && shift
arguments=("$@")

cd "$(dirname "$0")"
say() { echo "launch: $*" >&2; }
quote() { printf '%q ' "$@"; }
do_it() { # runs a command; prints it in a dry run
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
      status=0
      wait "$worker" || status=$?
      [[ $status -eq 0 || $code -ne 0 ]] || code=$status
    done
    workers=("${left[@]}")
    # The others would wait forever for a process that failed, but not for one that stopped on request.
    if [[ $code -ne 0 && $code -ne 143 && ${#workers[@]} -gt 0 ]]; then kill -KILL "${workers[@]}" 2>/dev/null || true; fi
    sleep 0.2
  done
  exit "$code"
fi

# --- a slice ------------------------------------------------------------------------------------------------------

[[ ${#place[@]} -eq 3 ]] || usage
[[ -n $down || ${#arguments[@]} -gt 0 ]] || usage
name=${place[0]} zone=${place[1]} type=${place[2]}
[[ -n $dry ]] || command -v gcloud >/dev/null || wrong "gcloud is not installed: see https://cloud.google.com/sdk/docs/install"
[[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] || wrong "the name of a slice has lower-case letters, digits and dashes: '$name'"
[[ $type =~ ^v[2-9][a-z]*-[0-9]+$ ]] || wrong "'$type' is not a valid type of slice, such as v5litepod-16, v5p-8 or v4-16"
if [[ -z $down ]]; then
  config="" out=""
  for argument in "${arguments[@]}"; do
    case $argument in
      --config=*) config=${argument#--config=} ;;
      --out=*) out=${argument#--out=} ;;
    esac
  done
  [[ -n $config ]] || wrong "the arguments after the two dashes are those of emojax.train; --config=FILE is missing"
  [[ -f $config || -f ${config%%:*} ]] || wrong "there is no configuration ${config%%:*} here"
  # The slice and its disks are deleted at the end.
  [[ -n $keep || $out == *://* || $out == /mnt/* ]] || wrong "the model would be lost with the slice: use --out=gs://..., a path below /mnt, or --keep"
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

state() { # READY, PREEMPTED, ...; nothing if there is no such slice
  if [[ -n $dry ]]; then return 0; fi
  "${tpu[@]}" describe "$1" "${where[@]}" --format='value(state)' 2>/dev/null || true
}

state_of_all() { # READY if all slices are, else the first other state
  local node one
  for node in "${nodes[@]}"; do
    one=$(state "$node")
    if [[ $one != READY ]]; then echo "$one"; return; fi
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
    do_it "${queue[@]}" create "$name" "${where[@]}" "${options[@]}" || return
    [[ -z $dry ]] || return 0
    local status
    while true; do
      status=$("${queue[@]}" describe "$name" "${where[@]}" --format='value(state.state)') || return
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
  local current
  current=$(state_of_all)
  case $current in
    READY) say "using $name again" ;;
    "")
      say "creating $name ($type)"
      # A queued resource outlives its slice, and would prevent the new one.
      if [[ -n $queued && -z $dry && $attempt -gt 0 ]]; then delete_all || true; fi
      create
      ;;
    CREATING | STARTING | REPAIRING | RESTARTING)
      say "$name is $current"
      sleep "${POLL:-30}"
      find_or_create
      ;;
    *) say "$name is $current: creating it again"; delete_all; create ;;
  esac
}

archive=emojax.tgz
push() { # copies the committed files and the name of the commit: a pod has no repository
  failed="packing the code"
  if [[ -z $dry ]]; then
    git diff --quiet HEAD || say "note: uncommitted changes are not copied"
    local box
    box=$(mktemp -d)
    git archive --format=tar HEAD >"$box/emojax.tar" || return
    git rev-parse HEAD >"$box/COMMIT"
    tar -rf "$box/emojax.tar" -C "$box" COMMIT
    gzip -c "$box/emojax.tar" >"$archive"
    rm -r "$box"
  fi
  local node
  for node in "${nodes[@]}"; do
    failed="copying the code to $node"
    do_it "${tpu[@]}" scp "$archive" "$node:emojax.tgz" "${where[@]}" --worker=all || return
    failed="installing the code on $node"
    do_it "${tpu[@]}" ssh "$node" "${where[@]}" --worker=all \
      --command="mkdir -p emojax && tar xzf emojax.tgz -C emojax && cd emojax && (test -x .venv/bin/python || python3.11 -m venv .venv || { rm -rf .venv && python3 -m pip install -q --user uv && python3 -m uv venv -q --seed --python 3.11 .venv; }) && .venv/bin/pip install -q -e .[tpu]" || return
  done
  [[ -n $dry ]] || rm -f "$archive"
}

train() { # on every worker of every slice at once; prints the log of the first slice
  # After a lost connection the previous start may still run and occupy the chips.
  local command="cd emojax && { test ! -f train.pid || { kill -TERM \$(cat train.pid) && sleep 20; } ; } 2>/dev/null; echo \$\$ >train.pid; EMOJAX_DISTRIBUTED=auto exec .venv/bin/python -m emojax.train $(quote "${arguments[@]}")" jobs=() node code=0 status
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
  for job in "${!jobs[@]}"; do
    status=0
    wait "${jobs[$job]}" || status=$?
    [[ $status -eq 0 || $code -ne 0 ]] || { code=$status failed="training on ${nodes[$job]}"; }
  done
  return "$code"
}

give_up() { # what failed, exit code
  local kept="; the slice is deleted"
  [[ -z $keep ]] || kept="; $name is kept and will be used"
  say "$1 failed with exit code $2 (what it printed is above): correct the cause and run the same command again, \
it continues from the last checkpoint$kept"
  exit "$2"
}

if [[ -n $down ]]; then delete_all; exit; fi
finish() {
  [[ -z $keep ]] || return 0
  say "deleting $name"
  delete_all || say "could not delete $name (already gone?)"
}
trap finish EXIT

lost=0
for ((attempt = 0; ; attempt++)); do
  code=0
  find_or_create || give_up "creating $name" $?
  if push; then lost=0; train || code=$?; else code=$?; lost=$((lost + 1)); fi
  [[ $code -ne 0 ]] || break
  current=$(state_of_all)
  # A failure of the program itself would repeat: restart only after lost machines. A new slice may be READY
  # before it takes connections.
  if [[ $current == READY && $code -ne 143 && ($code -ne 255 || $lost -ge 3) ]]; then
    give_up "$failed" "$code"
  fi
  if [[ $attempt -ge $retries ]]; then
    say "gave up after $retries restarts; run the same command again to continue from the last checkpoint"
    exit "$code"
  fi
  say "preempted (${current:-gone}, exit code $code); restarting from the last checkpoint"
  sleep "${POLL:-30}"
done
