#!/usr/bin/env bash
# A Ray cluster of several nodes on this machine, to try what is meant for many machines.
#
#   cluster/local.sh start [N]   N nodes (2) that share the cores; the first is the head
#   cluster/local.sh status      which of them run, and what Ray says
#   cluster/local.sh kill K      kill node K at once, as a power failure does
#   cluster/local.sh stop        stop all that was started, and nothing else
#
# Then: caviar run experiments/digits.py --address 127.0.0.1:6379
#
# The dashboard listens on 127.0.0.1 alone; Ray's other ports listen on all interfaces. All of them ask for the token
# of ~/.ray/auth_token (or RAY_AUTH_TOKEN_PATH), which is made if there is none. Set in the environment, if need be:
# PORT (6379), DASHBOARD_PORT (8265), CPUS of a node, OBJECT_STORE_MB of a node (200), and FOLDER for pids and logs;
# a cluster per folder.
set -euo pipefail

port=${PORT:-6379}
dashboard_port=${DASHBOARD_PORT:-8265}
object_store=$((${OBJECT_STORE_MB:-200} * 1024 * 1024))
folder=${FOLDER:-${TMPDIR:-/tmp}/caviar-$(id -u)} # short: the paths of sockets are limited
export RAY_AUTH_MODE=token RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=1 # on macOS Ray has no second node otherwise
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
unset RAY_ADDRESS

fail() {
  echo "local.sh: $1" >&2
  exit 1
}

# When the process of a number began, if it lives: numbers are used again, such a pair is not.
began() { ps -o stat= -o lstart= -p "$1" | awk '$1 !~ /^Z/ { print $2, $3, $4, $5, $6 }'; }

# The process of a node, if it still runs.
process() {
  local pid birth
  [ -e "$folder/node-$1" ] || return 0
  { read -r pid && read -r birth; } < "$folder/node-$1"
  if [ "$(began "$pid")" = "$birth" ]; then echo "$pid"; fi
}

numbers() {
  local file
  for file in "$folder"/node-*[0-9]; do
    if [ -e "$file" ]; then echo "${file##*-}"; fi
  done | sort -n
}

# A node in the background, in a process group of its own; `ray start --block` ends it as a whole. It has a folder of its
# own, too: nodes that share one remove one another's files of jobs.
start_node() {
  local number=$1 pid
  shift
  set -m
  ray start --block --num-cpus "$cpus" --object-store-memory "$object_store" \
    --min-worker-port 0 --max-worker-port 0 --dashboard-agent-listen-port 0 --temp-dir "$folder/ray-$number" "$@" \
    < /dev/null > "$folder/node-$number.log" 2>&1 &
  pid=$!
  set +m
  printf '%s\n%s\n' "$pid" "$(began "$pid")" > "$folder/node-$number"
}

# Wait until so many nodes are alive; give up where one of ours has ended.
await() {
  local number
  for _ in $(seq 120); do
    for number in $(numbers); do
      if [ -z "$(process "$number")" ]; then
        tail -n 20 "$folder/node-$number.log" >&2
        stop > /dev/null
        fail "node $number did not start; its last words are above"
      fi
    done
    if [ "$(alive)" -ge "$1" ]; then return; fi
    sleep 1
  done
  stop > /dev/null
  fail "the nodes did not find one another within two minutes"
}

alive() {
  python3 - "127.0.0.1:$port" 2> /dev/null << 'PYTHON' || echo 0
import sys
from ray._raylet import GcsClient
print(sum(node.state == 0 for node in GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5).values()))
PYTHON
}

in_use() { python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)' "$1" 2> /dev/null; }

start() {
  local nodes=${1:-2} wanted cores number
  [[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "start $nodes: how many nodes? a number from 1"
  command -v ray > /dev/null || fail "ray is not installed here: pip install -c constraints.txt -e ."
  [ -z "$(numbers)" ] || fail "a cluster was started from $folder already: stop it first"
  for wanted in "$port" "$dashboard_port"; do
    ! in_use "$wanted" || fail "something listens at port $wanted already: set PORT and DASHBOARD_PORT to others"
  done
  (umask 077 && mkdir -p "$folder")
  [ -O "$folder" ] && [ ! -L "$folder" ] || fail "$folder belongs to somebody else: name another FOLDER"
  if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (
      umask 077 && mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
      python3 -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH"
    )
  fi
  cores=$(python3 -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')
  cpus=${CPUS:-$((cores > nodes ? cores / nodes : 1))}

  start_node 1 --head --port "$port" --dashboard-host 127.0.0.1 --dashboard-port "$dashboard_port"
  await 1
  for ((number = 2; number <= nodes; number++)); do # the GPUs are the head's
    start_node "$number" --address "127.0.0.1:$port" --num-gpus 0
  done
  await "$nodes"
  echo "nodes: $nodes, cores of each: $cpus    caviar run EXPERIMENT.py --address 127.0.0.1:$port"
  echo "jobs and dashboard: http://127.0.0.1:$dashboard_port  (RAY_AUTH_MODE=token)"
}

status() {
  local number pid
  [ -n "$(numbers)" ] || fail "no cluster was started from $folder"
  for number in $(numbers); do
    pid=$(process "$number")
    if [ -n "$pid" ]; then echo "node $number runs as process $pid"; else echo "node $number has ended"; fi
  done
  ray status --address "127.0.0.1:$port"
}

# A process and all that came from it, workers of trials too.
family() {
  local child
  echo "$1"
  for child in $(ps -A -o pid= -o ppid= | awk -v parent="$1" '$2 == parent { print $1 }'); do family "$child"; done
}

kill_node() {
  local pid
  pid=$(process "$1")
  [ -n "$pid" ] || fail "node $1 does not run"
  # shellcheck disable=SC2046 # one word a process
  kill -KILL $(family "$pid") 2> /dev/null || true
  while [ -n "$(process "$1")" ]; do sleep 0.1; done
  echo "node $1 is killed"
}

stop() {
  local number pid
  for number in $(numbers | sort -nr); do # the head last: the others ask it to be let go
    pid=$(process "$number")
    if [ -n "$pid" ]; then
      kill -TERM "$pid" 2> /dev/null || true
      for _ in $(seq 40); do
        [ -n "$(process "$number")" ] || break
        sleep 1
      done
      kill -KILL -- "-$pid" 2> /dev/null || true # workers, in groups of their own, end with their node
    fi
    for _ in $(seq 20); do # workers may still write there, and end soon
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
