"""A Slurm of one node for a test: its own folder, ports, key and daemons, ended by their ids."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NODE = "node1"
GPUS = 2
DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")

# Memory and processors are pretended: jobs ask for what a real case needs and use little of it.
# Memory is enforced by looking at the processes each second, as no cgroup is used.
SLURM_CONF = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=sched_interval=1,bf_interval=1
MinJobAge=3600
KillWait=2
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=100000 Gres=gpu:{gpus}
PartitionName=cpu Nodes={node} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={node} MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Programs of Slurm and MUNGE that this machine does not have."""
    return [name for name in (*DAEMONS, *CLIENTS) if not find_program(name)]


def find_program(name: str) -> str | None:
    """Daemons lie in sbin, which is not on every user's PATH."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin:/sbin")


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.3)


class PrivateSlurm:
    """The handle of a running Slurm: its environment, and what an operator does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, as `scontrol show job` tells it."""
        text = self.call("scontrol", "--oneliner", "show", "job")
        lines = [line for line in text.splitlines() if line.startswith("JobId=")]
        return [dict(p.partition("=")[::2] for p in line.split() if "=" in p) for line in lines]

    def jobs_of(self, workdir: Path, comment: str = "") -> list[dict[str, str]]:
        """The jobs of one run, or the attempts of one of its Snakemake jobs, first one first."""
        found = [job for job in self.jobs() if job["WorkDir"] == str(workdir)]
        found = [job for job in found if comment in ("", job["Comment"])]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def job(self, number: str) -> dict[str, str]:
        return next(job for job in self.jobs() if job["JobId"] == number)

    def state(self, number: str) -> str:
        return self.job(number)["JobState"]

    def set(self, kind: str, name: str, *values: str) -> None:
        self.call("scontrol", "update", f"{kind}={name}", *values)

    def set_node(self, state: str) -> None:
        self.set("nodename", NODE, f"state={state}", "reason=test")

    def node_state(self) -> str:
        return self.call("sinfo", "--noheader", "--Node", "--partition=cpu", "--format=%T").strip()

    def answers(self) -> bool:
        with suppress(RuntimeError):
            return self.node_state() == "idle"
        return False

    def logs(self) -> str:
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in paths)


@contextmanager
def private_slurm() -> Iterator[PrivateSlurm]:
    """Start MUNGE, the controller and one node; end all that was started, whatever happens."""
    # The path of a Unix socket has at most 107 characters, so not below pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="backsplit-slurm-"))
    slurm = PrivateSlurm(folder)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _configure(folder)
        _start_all(slurm, daemons)
        yield slurm
    finally:
        _stop_all(slurm, daemons)
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    # The executor's plugin drops SLURM_CONF before it calls srun in a job; give it back.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {find_program("srun")} "$@"\n')
    srun.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller_port, node_port = _free_ports(2)
    values = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser()}
    (folder / "slurm.conf").write_text(
        SLURM_CONF.format(
            folder=folder, node=NODE, gpus=GPUS, **values,
            controller_port=controller_port, node_port=node_port,
        )
    )  # fmt: skip
    devices = [folder / f"gpu{i}" for i in range(GPUS)]
    for device in devices:
        device.symlink_to(os.devnull)  # Slurm wants device files; nobody opens these
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={d}\n" for d in devices))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start_all(slurm: PrivateSlurm, daemons: list[subprocess.Popen[bytes]]) -> None:
    folder = slurm.folder
    munge = ["--foreground", "--force", "--num-threads=2"]
    for option, name in [
        ("key-file", "munge.key"), ("socket", "munge.socket"), ("pid-file", "munge.pid"),
        ("log-file", "munge.inner.log"), ("seed-file", "munge.seed"),
    ]:  # fmt: skip
        munge.append(f"--{option}={folder / name}")
    daemons.append(_start(slurm, "munged", *munge))
    wait_for((folder / "munge.socket").exists, 20, "MUNGE's socket")
    daemons.append(_start(slurm, "slurmctld", "-D"))
    daemons.append(_start(slurm, "slurmd", "-D", "-N", NODE))
    try:
        wait_for(slurm.answers, 60, "the node to be idle")
    except TimeoutError as error:
        raise RuntimeError(f"Slurm did not start: {error}\n{slurm.logs()}") from error


def _start(slurm: PrivateSlurm, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    program = find_program(name)
    assert program, name
    with (slurm.folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [program, *arguments], env=slurm.environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def _stop_all(slurm: PrivateSlurm, daemons: list[subprocess.Popen[bytes]]) -> None:
    with suppress(Exception):  # jobs first: their processes are the node's, not ours
        slurm.call("scancel", "--user", getpass.getuser())
        wait_for(lambda: not slurm.call("squeue", "--noheader").strip(), 20, "jobs to end")
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    for process in _left_over(slurm.folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def _left_over(folder: Path) -> list[int]:
    """Processes of jobs that outlived Slurm: those whose environment names our configuration."""
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found
