"""A real SLURM of one machine in a scratch folder, from Debian's packages, nothing installed.

python -m tests.slurm FOLDER: start one, say which variables to set, stop it at Ctrl-C.
"""
import getpass
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge", "libmunge2", "libhwloc15",
            "liblua5.1-0")
CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
PluginDir={libraries}/slurm-wlm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=60 State=UP OverSubscribe=NO
"""


class Unavailable(Exception):
    """Debian's packages cannot be had here; the message says why."""


def fetch(folder):
    """Download the packages into `folder` and unpack them; Unavailable where that cannot be done."""
    if not all(map(shutil.which, ("apt-get", "dpkg"))):
        raise Unavailable("Debian's packages of SLURM cannot be had: no apt-get and dpkg here")
    debs = folder / "debs"
    (folder / "lists" / "partial").mkdir(parents=True)
    debs.mkdir()
    own = ["-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}"]
    for commands in ([["download", *PACKAGES]], [[*own, "update"], [*own, "download", *PACKAGES]]):
        done = [subprocess.run(["apt-get", "-qq", *words], cwd=debs, capture_output=True, text=True, check=False)
                for words in commands]
        if all(d.returncode == 0 for d in done):
            break
    else:
        raise Unavailable(f"Debian's packages of SLURM cannot be had: {done[-1].stderr.strip().splitlines()[-1]}")
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, folder / "root"], check=True)


def free_ports(count):
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Slurm:
    """munged, slurmctld and slurmd on 127.0.0.1; `environment` makes sbatch and its kin find them."""

    def __init__(self, folder, cores=2):
        self.folder, self.daemons = pathlib.Path(folder).resolve(), []
        fetch(self.folder)
        root = self.folder / "root" / "usr"
        libraries = next((root / "lib").glob("*-linux-gnu"))
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"),
                            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
                            "LD_LIBRARY_PATH": f"{libraries}:{libraries / 'slurm-wlm'}"}
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        (self.folder / "slurm.conf").write_text(CONF.format(
            host=socket.gethostname().split(".")[0], user=getpass.getuser(), folder=self.folder, libraries=libraries,
            ports=free_ports(2), cores=cores))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.daemon(root / "sbin" / "munged", "-F", "-f", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
                    f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
                    f"--seed-file={self.folder}/munge.seed")
        self.until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.daemon(root / "sbin" / "slurmctld-wlm", "-D", "-L", self.folder / "slurmctld.log")
        self.daemon(root / "sbin" / "slurmd-wlm", "-D", "-L", self.folder / "slurmd.log", "-d",
                    root / "sbin" / "slurmstepd-wlm")
        self.until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), "slurmd")

    def daemon(self, *command):
        with open(self.folder / "daemons.log", "a") as log:
            self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def ask(self, *command):
        """What one of SLURM's commands prints."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout

    def until(self, ready, what, seconds=40):
        """Wait for a daemon."""
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end or any(d.poll() is not None for d in self.daemons):
                self.stop()
                logs = "".join(p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.log"))
                raise RuntimeError(f"{what} does not come up:\n{logs}")
            time.sleep(0.1)

    def stop(self):
        """End the jobs, then the daemons."""
        self.ask("scancel", "--user", getpass.getuser())
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


if __name__ == "__main__":
    cluster = Slurm(sys.argv[1])
    for name in ("SLURM_CONF", "PATH", "LD_LIBRARY_PATH"):
        print(f"export {name}={cluster.environment[name]}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        cluster.stop()
