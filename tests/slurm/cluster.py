#!/usr/bin/env python3
"""Runs a command beside a Slurm of one node that lives for as long as the command.

    python3 tests/slurm/cluster.py COMMAND …

Debian's packages of Slurm are downloaded by apt-get and unpacked below target/slurm, once; nothing is installed, and
nobody has to be root. The controller and the node's daemon run in the foreground, without authentication, and keep
their state, logs and ports to themselves. COMMAND finds `sbatch` and the others in PATH, and the cluster by SLURM_CONF.
Exit status: that of COMMAND; 77 if there are no such packages here.

The node has two CPUs, whatever the machine has. A job that is killed has ten seconds to end. Jobs of the partition
`urgent` push those of `main` aside, which are then requeued.
"""

import argparse
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What Slurm's three programs need beyond what every Debian has.
PACKAGES = (
    "slurmctld slurmd slurm-client slurm-wlm-basic-plugins libhwloc15 libjson-c5 liblua5.1-0 libmunge2 libnuma1 "
    "libyaml-0-2 libdbus-1-3 liblz4-1 libreadline8 libpam0g libaudit1 libcap-ng0"
).split()
UNAVAILABLE = 77
# The daemons answer within seconds; a loaded machine gets more.
PATIENCE = 60

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """There are no packages of Slurm on this machine."""


def unpacked_packages(folder):
    """The folder below which Slurm is unpacked, as below `/`; downloads it if it is not there."""
    root = folder / "root"
    if root.is_dir():
        return root
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Unavailable("expected apt-get and dpkg: Slurm's packages are Debian's")
    shutil.rmtree(folder, ignore_errors=True)
    downloads = folder / "packages"
    downloads.mkdir(parents=True)
    download = subprocess.run(["apt-get", "download", *PACKAGES], cwd=downloads, capture_output=True, text=True)
    if download.returncode:
        raise Unavailable(f"cannot download Slurm's packages (`apt-get update` may help): {download.stderr.strip()}")
    unfinished = folder / "unfinished"
    for package in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, unfinished], check=True)
    # Debian's alternatives, which an installation would link.
    for program in ("slurmctld", "slurmd", "slurmstepd"):
        if (unfinished / f"usr/sbin/{program}-wlm").exists():
            (unfinished / f"usr/sbin/{program}").symlink_to(f"{program}-wlm")
    unfinished.rename(root)
    return root


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """Slurm's daemons, from `with` to its end."""

    def __init__(self, root, folder):
        self.root, self.folder, self.daemons = root, folder, []
        plugins = next(root.glob("usr/lib/*/slurm-wlm"))
        folders = [root / "usr/bin", root / "usr/sbin"]
        libraries = [plugins, plugins.parent, *root.glob("lib/*-linux-gnu")]
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": ":".join([*map(str, folders), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": ":".join([*map(str, libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
            # Where its logs are, for a test that failed.
            "SLURM_TEST_FOLDER": str(folder),
        }
        for name in ("state", "spool"):
            (folder / name).mkdir()
        controller_port, node_port = free_ports(2)
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                user=getpass.getuser(),
                plugins=plugins,
                folder=folder,
                controller_port=controller_port,
                node_port=node_port,
            )
        )

    def __enter__(self):
        try:
            self.start("slurmctld", "-D", "-i", "-c")
            self.start("slurmd", "-D", "-d", str(self.root / "usr/sbin/slurmstepd"))
            self.wait_until_idle()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["scancel", "--user", getpass.getuser()], env=self.environment, capture_output=True)
        self.stop()

    def start(self, program, *arguments):
        with open(self.folder / f"{program}.log", "w") as log:
            command = [str(self.root / "usr/sbin" / program), *arguments]
            daemon = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, start_new_session=True)
        self.daemons.append((program, daemon))

    def wait_until_idle(self):
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            for program, daemon in self.daemons:
                if daemon.poll() is not None:
                    log = (self.folder / f"{program}.log").read_text()
                    raise RuntimeError(f"{program} ended with status {daemon.returncode}:\n{log[-3000:]}")
            nodes = subprocess.run(["sinfo", "-h", "-o", "%T"], env=self.environment, capture_output=True, text=True)
            if nodes.stdout.split()[:1] == ["idle"]:
                return
            time.sleep(0.2)
        raise RuntimeError(f"the node was not idle after {PATIENCE} s; logs: {self.folder}")

    def stop(self):
        # The node first, which tells the controller.
        for _, daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=ROOT / "target/slurm", help="where Slurm is unpacked")
    parser.add_argument("--keep", action="store_true", help="keep the daemons' logs, and print where they are")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        root = unpacked_packages(arguments.packages)
    except Unavailable as error:
        print(f"no Slurm here: {error}", file=sys.stderr)
        return UNAVAILABLE
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with Cluster(root, folder) as cluster:
            return subprocess.run(arguments.command or ["sinfo"], env=cluster.environment).returncode
    finally:
        if arguments.keep:
            print(f"logs of the daemons: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # Stops the daemons where the command is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
