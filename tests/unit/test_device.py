"""GPUs on one machine: what a job may take when Slurm has given it some."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CLAIM = (
    "import sys; from backsplit.segment.device import claim_gpu;"
    "print(claim_gpu(1), flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(("numbers", "both"), [(("11", "12"), True), (("", ""), False)])
def test_slurm_jobs_with_their_own_device_0_run_in_parallel(tmp_path, numbers, both):
    """Confined by Slurm, device 0 of two jobs is not the same GPU; without Slurm it is."""
    jobs = []
    try:
        for number in numbers:
            environment = {**os.environ, "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0"}
            environment["SLURM_JOB_ID"] = number
            jobs.append(
                subprocess.Popen(
                    [sys.executable, "-c", CLAIM], stdin=subprocess.PIPE, env=environment,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )
            )  # fmt: skip
            if number == numbers[0] and len(jobs) == 1:
                assert jobs[0].stdout.readline() == "0\n"
        if both:
            assert jobs[1].stdout.readline() == "0\n"
        else:
            assert "taken by other jobs" in jobs[1].stderr.readline()
    finally:
        for job in jobs:
            job.kill()
            job.communicate()
