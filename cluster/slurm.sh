#!/usr/bin/env bash
# A study on the nodes of a Slurm allocation: a Ray cluster is started on them, and stopped at the end.
#
#   sbatch --nodes 4 cluster/slurm.sh experiments/digits.py --name digits
#
# What follows the script is passed on to `caviar run --resume`: submitted again after its time ran out, the same line
# goes on with the run. Results are in $RUNS (runs/ beside where it was submitted), which must lie on the shared disk.
#SBATCH --job-name=caviar
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=04:00:00
#SBATCH --output=caviar-%j.log
# GPUs: sbatch --gpus-per-node 4 ...
set -euo pipefail

experiment=${1:?sbatch cluster/slurm.sh EXPERIMENT.py [OPTIONS of caviar run]}
shift
runs=${RUNS:-$PWD/runs}

# Only those who can read this file can speak to the cluster. It lies on the shared disk, for all nodes read it.
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
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs that follow one another do not meet
ulimit -n "$(ulimit -H -n)"
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# One task a node: the first node's becomes the head and runs the study, the others join it. `ray symmetric-run` ends
# with `ray stop`, which stops every Ray of this user on these nodes: hence --exclusive.
srun --nodes "$SLURM_JOB_NUM_NODES" --ntasks-per-node 1 --cpus-per-task "$SLURM_CPUS_ON_NODE" --kill-on-bad-exit=1 \
  ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_ON_NODE" --dashboard-host 127.0.0.1 \
  -- caviar run "$experiment" --address auto --runs "$runs" --resume "$@"
