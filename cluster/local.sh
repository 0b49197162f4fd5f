#!/usr/bin/env bash
# Start a Ray cluster of several nodes on this machine, to try out what is meant for many machines.
#
#   cluster/local.sh start [N]   start N nodes (default: 2) that share cores and memory; the first is the head
#   cluster/local.sh status      show which nodes are running, and Ray's status
#   cluster/local.sh kill K      kill node K at once, as a power failure would
#   cluster/local.sh stop        stop all nodes that this script started, and nothing else
#
# Then: caviar run experiments/digits.py --address 127.0.0.1:6379
#
# The dashboard listens on 127.0.0.1 only, Ray's other ports on all interfaces. They require the token in
# ~/.ray/auth_token (or RAY_AUTH_TOKEN_PATH), which is created if it does not exist. Ray's metrics do not: the ports 44217
# and 44227 and one more of each node tell everyone who reaches this machine its name and its load.
#
# Environment variables, with their defaults:
#   PORT=6379  DASHBOARD_PORT=8265
#   CPUS             cores of each node (an equal share of this machine's)
#   OBJECT_STORE_MB  size of each node's object store (200)
#   FOLDER           folder for process ids and logs (/tmp/caviar-UID); each folder can have one cluster
set -euo pipefail

port=${PORT:-6379}
dashboard_port=${DASHBOARD_PORT:-8265}
object_store=$((${OBJECT_STORE_MB:-200} * 1024 * 1024))
folder=${FOLDER:-${TMPDIR:-/tmp}/caviar-$(id -u)} # a short path, because the paths of sockets are limited
export RAY_AUTH_MODE=token RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=1 # otherwise Ray allows one node only on macOS
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
unset RAY_ADDRESS

fail() {
  echo "local.sh: $1" >&2
  exit 1
}

# Print the start time of a process, or nothing if it has ended. Process ids are reused; id and start time are unique.
start_time() { ps -o stat= -o lstart= -p "$1" | awk '$1 !~ /^Z/ { print $2, $3, $4, $5, $6 }'; }

# Print the process id of a node, or nothing if the node has ended.
pid_of() {
  local pid started
  [ -e "$folder/node-$1" ] || return 0
  { read -r pid && read -r started; } < "$folder/node-$1"
  if [ "$(start_time "$pid")" = "$started" ]; then echo "$pid"; fi
}

# Print the numbers of all nodes that were started.
numbers() {
  local file
  for file in "$folder"/node-*[0-9]; do
    if [ -e "$file" ]; then echo "${file##*-}"; fi
  done | sort -n
}

# Start a node in the background. It has its own process group, which `ray start --block` ends as a whole, and its own
# folder, because nodes that share one delete each other's files of jobs.
start_node() {
  local number=$1 pid
  shift
  set -m
  ray start --block --num-cpus "$cpus" --memory "$memory" --object-store-memory "$object_store" \
    --min-worker-port 0 --max-worker-port 0 --dashboard-agent-listen-port 0 --temp-dir "$folder/ray-$number" "$@" \
    < /dev/null > "$folder/node-$number.log" 2>&1 &
  pid=$!
  set +m
  printf '%s\n%s\n' "$pid" "$(start_time "$pid")" > "$folder/node-$number"
}

# Wait until the given number of nodes are alive. Fail if a node that was started has ended.
wait_for_nodes() {
  local number
  for _ in $(seq 120); do
    for number in $(numbers); do
      if [ -z "$(pid_of "$number")" ]; then
        tail -n 20 "$folder/node-$number.log" >&2
        stop > /dev/null
        fail "node $number did not start: see the end of its log above"
      fi
    done
    if [ "$(alive)" -ge "$1" ]; then return; fi
    sleep 1
  done
  stop > /dev/null
  fail "the cluster did not have $1 nodes within two minutes"
}

# Print the number of nodes that the cluster says are alive.
alive() {
  python3 - "127.0.0.1:$port" 2> /dev/null << 'PYTHON' || echo 0
import sys
from ray._raylet import GcsClient
print(sum(node.state == 0 for node in GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5).values()))
PYTHON
}

in_use() { python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)' "$1" 2> /dev/null; }

start() {
  local nodes=${1:-2} wanted cores free number
  [[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "start $nodes: the number of nodes must be a whole number of at least 1"
  command -v ray > /dev/null || fail "the ray command is not installed: run pip install -c constraints.txt -e ."
  [ -z "$(numbers)" ] || fail "there is a cluster in $folder already: run cluster/local.sh stop first"
  for wanted in "$port" "$dashboard_port"; do
    ! in_use "$wanted" || fail "port $wanted is in use: set PORT and DASHBOARD_PORT to free ports"
  done
  (umask 077 && mkdir -p "$folder")
  [ -O "$folder" ] && [ ! -L "$folder" ] || fail "$folder belongs to another user: set FOLDER to another folder"
  if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (
      umask 077 && mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
      python3 -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH"
    )
  fi
  cores=$(python3 -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')
  cpus=${CPUS:-$((cores > nodes ? cores / nodes : 1))}
  # By default, Ray gives each node all memory that is free when the node starts.
  free=$(python3 -c 'from ray._private.utils import estimate_available_memory; print(estimate_available_memory())')
  memory=$((free / nodes - object_store))
  ((memory > 0)) || fail "there is no memory for $nodes nodes: start fewer, or set OBJECT_STORE_MB to less"

  start_node 1 --head --port "$port" --dashboard-host 127.0.0.1 --dashboard-port "$dashboard_port"
  wait_for_nodes 1
  for ((number = 2; number <= nodes; number++)); do # the head gets the GPUs
    start_node "$number" --address "127.0.0.1:$port" --num-gpus 0
  done
  wait_for_nodes "$nodes"
  echo "started $nodes nodes with $cpus cores and $((memory / 1024 / 1024)) MiB of memory each"
  echo "run a study:   caviar run EXPERIMENT.py --address 127.0.0.1:$port"
  echo "submit a job:  caviar submit EXPERIMENT.py --address http://127.0.0.1:$dashboard_port --runs $PWD/runs"
  echo "dashboard:     http://127.0.0.1:$dashboard_port, with the token in $RAY_AUTH_TOKEN_PATH"
}

status() {
  local number pid
  [ -n "$(numbers)" ] || fail "there is no cluster in $folder"
  for number in $(numbers); do
    pid=$(pid_of "$number")
    if [ -n "$pid" ]; then echo "node $number is running (process $pid)"; else echo "node $number has ended"; fi
  done
  ray status --address "127.0.0.1:$port"
}

# Print the ids of a process and all its descendants, among them the workers that run trials.
descendants() {
  local child
  echo "$1"
  for child in $(ps -A -o pid= -o ppid= | awk -v parent="$1" '$2 == parent { print $1 }'); do descendants "$child"; done
}

kill_node() {
  local pid
  pid=$(pid_of "$1")
  [ -n "$pid" ] || fail "node $1 is not running"
  # shellcheck disable=SC2046 # one word for each process
  kill -KILL $(descendants "$pid") 2> /dev/null || true
  while [ -n "$(pid_of "$1")" ]; do sleep 0.1; done
  echo "killed node $1"
}

stop() {
  local number pid
  for number in $(numbers | sort -nr); do # the head last, because the others sign off from it
    pid=$(pid_of "$number")
    if [ -n "$pid" ]; then
      kill -TERM "$pid" 2> /dev/null || true
      for _ in $(seq 40); do
        [ -n "$(pid_of "$number")" ] || break
        sleep 1
      done
      kill -KILL -- "-$pid" 2> /dev/null || true # workers have their own groups and end with their node
    fi
    for _ in $(seq 20); do # workers that are ending may still write there
      rm -rf "$folder/node-$number" "$folder/node-$number.log" "$folder/ray-$number" 2> /dev/null && break
      sleep 0.5
    done
  done
  rmdir "$folder" 2> /dev/null || true
  echo "stopped"
}

case ${1:-} in
  start) start "${2:-}" ;;
  status) status ;;
  kill) kill_node "${2:-}" ;;
  stop) stop ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0" && exit 2 ;;
esac
