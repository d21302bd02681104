#!/usr/bin/env bash
# One launcher on every node of a training over several: srun --ntasks-per-node 1 profiles/slurm/every_node.sh PROCESSES -m hcma.train ...
# PROCESSES a node, one a GPU. The nodes meet at the first one's address, at a port that another job is not likely to have.
set -euo pipefail
processes=$1
shift
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
exec torchrun --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" --nproc-per-node "$processes" \
    --master-addr "$address" --master-port $((20000 + SLURM_JOB_ID % 10000)) "$@"
