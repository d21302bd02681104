#!/usr/bin/env bash
# One word about a SLURM job: success, running or failed. Asks the controller and, once that has forgotten the job, the accounts.
answer=$(scontrol -o show job "$1" 2>&1)
state=$(sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' <<< "$answer")
if [ -z "$state" ] && [[ $answer == *"Invalid job id"* ]]; then
    state=$(sacct -X -n -P -o State -j "$1" 2> /dev/null | head -n 1)
    state=${state:-UNKNOWN}
fi
case "$state" in
    COMPLETED) echo success ;;
    "" | PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | STOPPED | REQUEUE*) echo running ;;  # "": a busy controller
    *) echo failed ;;
esac
