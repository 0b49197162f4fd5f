#!/usr/bin/env bash
# Run a study on the nodes of a Slurm allocation: start a Ray cluster on them, and stop it at the end.
#
#   sbatch --nodes 4 cluster/slurm.sh EXPERIMENT.py [OPTIONS]
#
# OPTIONS are those of `caviar run`. If the time runs out, submit the same line again: the run continues.
# Results are in $RUNS, which must be on the shared disk (default: runs/ in the folder from which you submit).
#SBATCH --job-name=caviar
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=04:00:00
#SBATCH --output=caviar-%j.log
# For GPUs: sbatch --gpus-per-node 4 ...
set -euo pipefail

experiment=${1:?usage: sbatch cluster/slurm.sh EXPERIMENT.py [OPTIONS of caviar run]}
shift
runs=${RUNS:-$PWD/runs}

# Whoever can read this file has access to the cluster. It must be on the shared disk, because all nodes read it.
export RAY_AUTH_MODE=token RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_TOKEN RAY_ADDRESS
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  (
    umask 077 && mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    python3 -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH"
  )
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000)) # so that jobs that follow one another use different ports
ulimit -n "$(ulimit -H -n)"
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# Run one task on each node, with all cores of that node. The first node becomes the head and runs the study; the others
# join it. At the end `ray symmetric-run` calls `ray stop`, which stops all Ray processes of this user on these nodes:
# hence --exclusive.
# shellcheck disable=SC2016 # each node replaces SLURM_CPUS_ON_NODE by its own number of cores
srun --nodes "$SLURM_JOB_NUM_NODES" --ntasks-per-node 1 --whole --cpu-bind=none --kill-on-bad-exit=1 \
  bash -c 'exec ray symmetric-run --num-cpus "$SLURM_CPUS_ON_NODE" "$@"' bash \
  --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" --dashboard-host 127.0.0.1 \
  -- caviar run "$experiment" --address auto --runs "$runs" --resume "$@"
