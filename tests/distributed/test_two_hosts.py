"""Two hosts as two network namespaces: a run over a link of a given bandwidth and, where it can be, latency."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from mpi_runs import MPIEXEC, environment, needs_mpi, train_words

pytestmark = [
    needs_mpi,
    pytest.mark.skipif(shutil.which("ip") is None or shutil.which("tc") is None, reason="no iproute2"),
]

MEGABITS = 200


def run(*words, check=True):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=check)


@contextmanager
def two_hosts(folder, megabits, milliseconds=0):
    """Yield what starts a job on two namespaces, a rank each, and whether the link has the latency asked for."""
    names = [f"minidl{os.getpid()}{end}" for end in "ab"]
    ends = [f"v{os.getpid()}{end}" for end in "ab"]
    try:
        for name in names:
            if (made := run("ip", "netns", "add", name, check=False)).returncode:
                pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
        made = run(
            "ip",
            "link",
            "add",
            ends[0],
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            ends[1],
            "netns",
            names[1],
            check=False,
        )
        if made.returncode:
            pytest.skip(f"a link between namespaces cannot be made here: {made.stderr.strip()}")
        late = True
        for i, (name, end) in enumerate(zip(names, ends, strict=True), start=1):
            run("ip", "-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", end)
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "link", "set", end, "up")
            shape = ["rate", f"{megabits}mbit"]
            root = ["tc", "-n", name, "qdisc", "add", "dev", end, "root"]
            if milliseconds and not run(*root, "netem", "delay", f"{milliseconds}ms", *shape, check=False).returncode:
                continue
            late = False  # this kernel delays nothing: the bandwidth alone
            if (limited := run(*root, "tbf", *shape, "burst", "64kb", "latency", "100ms", check=False)).returncode:
                pytest.skip(f"a link cannot be limited here: {limited.stderr.strip()}")
        launcher = folder / "launcher"  # mpiexec calls it as ssh: options, the host, and the words of a shell command
        launcher.write_text(
            "#!/bin/sh\n"
            'while [ "${1#-}" != "$1" ]; do shift; done\n'
            f'case "$1" in 10.77.0.1) name={names[0]};; *) name={names[1]};; esac\n'
            'shift; exec ip netns exec "$name" sh -c "$*"\n'
        )
        launcher.chmod(0o755)
        hosts = ["-launcher", "ssh", "-launcher-exec", str(launcher), "-hosts", "10.77.0.1,10.77.0.2"]

        def mpi(*words, timeout=300):
            start = ["ip", "netns", "exec", names[0], MPIEXEC, *hosts, "-n", "2", sys.executable, "-m", "mpi4py"]
            env = {**environment(), "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}
            return subprocess.run([*start, *map(str, words)], capture_output=True, text=True, timeout=timeout, env=env)

        try:
            tried = mpi("-c", "from mpi4py import MPI; MPI.COMM_WORLD.barrier()", timeout=15)
            why = tried.stderr.strip()[-300:] or f"status {tried.returncode}" if tried.returncode else ""
        except subprocess.TimeoutExpired as error:
            why = (error.stderr or b"").decode(errors="replace").strip()[-300:] or "no answer within 15 s"
        if why:
            pytest.skip(f"MPI does not start between two namespaces here: {why}")
        yield mpi, late
    finally:
        for name in names:
            run("ip", "netns", "del", name, check=False)


SUMS = """
import json, time
import numpy as np
from minidl.distributed import communicator
world = communicator()
found = {"size": world.size, "local_size": world.local_size}
for size in (1, 1 << 19):
    row = np.full(size, 1.0 + world.rank)
    world.start_total(row.copy()).wait()
    world.barrier()
    start = time.perf_counter()
    world.start_total(row).wait()
    found[str(size)] = time.perf_counter() - start
    assert (row == 3).all()
if world.rank == 0:
    print(json.dumps(found))
"""


def test_a_sum_between_two_hosts_takes_as_long_as_the_link_needs(tmp_path):
    script = tmp_path / "sums.py"
    script.write_text(SUMS)
    with two_hosts(tmp_path, MEGABITS, milliseconds=2) as (mpi, late):
        done = mpi(script)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["size"], found["local_size"]) == (2, 1)
    # a link is never faster than it is: half of 4 MiB must pass it at least, but for what the bucket lets through
    burst = 64 << 10 if not late else 0
    assert found[str(1 << 19)] > 8 * ((4 << 20) / 2 - burst) / (MEGABITS * 1e6)
    if late:
        assert found["1"] > 2e-3


def test_a_run_between_two_hosts_is_the_run_of_two_ranks_on_one(tmp_path):
    with two_hosts(tmp_path, MEGABITS) as (mpi, _):
        done = mpi(*train_words(tmp_path / "two", "--sync-norm", "--checkpoint-every", "6"))
    assert done.returncode == 0, done.stderr
    from mpi_runs import mpi as on_one

    assert on_one(2, *train_words(tmp_path / "one", "--sync-norm", "--checkpoint-every", "6")).returncode == 0
    last = [max((tmp_path / name / "checkpoints").iterdir()).read_bytes() for name in ("two", "one")]
    assert last[0] == last[1]
