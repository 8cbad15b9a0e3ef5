# SPDX-License-Identifier: Apache-2.0
"""What one run of the agent costs over bare ``restic backup`` with the same arguments, against one rest-server with TLS.

    .venv/bin/python benchmarks/agent_overhead.py --bin FOLDER            40,000 files, 3 GB, 5 pairs; some ten minutes
    .venv/bin/python benchmarks/agent_overhead.py --bin FOLDER --line 1gbit             as a NAS on the practice's network
    .venv/bin/python benchmarks/agent_overhead.py --bin FOLDER --files 2000 --megabytes 150 --pairs 3

FOLDER holds restic and restic-rest-server as Debian 13 has them. A pair is a first run and an unchanged second run of each of
the two, each in a repository and with a cache of its own; which of them begins changes from pair to pair. Memory is the largest
sum of resident memory over the processes at work, looked at every 20 ms. Bytes read are all reads of files and pipes by the
agent and restic, less those of bare restic.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / ".collections"))
LIMITS = "first run: 5 % and 40 MB more; unchanged run: 1.15 times and 1 s more"
PASSWORD = "benchmark"  # noqa: S105 - opens nothing but what is made and removed here
PORT = 18443
URL = f"rest:https://127.0.0.1:{PORT}"
# a network of its own, where all that the two and the server say to each other crosses a line of that speed
LINE = 'ip link set lo up && tc qdisc add dev lo root tbf rate "$0" burst 1mb latency 50ms && exec "$@"'
LINE_LAID = "HOLDFAST_BENCHMARK_LINE"
# as on a host, with other places and another restic
LAUNCHER = """\
import os
import sys

os.umask(0o077)
sys.dont_write_bytecode, sys.pycache_prefix = False, "{folder}/bytecode"
sys.path.insert(0, "{repository}/.collections")
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.module_utils import agent_host, restic
from ansible_collections.holdfast.practice.plugins.module_utils.agent import main

environment = restic.environment
restic.environment = lambda *given: {{**environment(*given), "PATH": "{programs}:/usr/bin:/bin"}}
sys.exit(main(sys.argv[1:], agent_host.Places(*(Path("{folder}", name) for name in ("etc", "state", "cache", "run")))))
"""


def make_data(folder: Path, files: int, megabytes: int) -> int:
    """Files of very different sizes, half of each of them compressible; returns their bytes."""
    chance = random.Random(1)  # noqa: S311
    sizes = [chance.lognormvariate(0, 1.2) for _ in range(files)]
    scale, total = megabytes * 1e6 / sum(sizes), 0
    line = b"a line of text as it is found again and again in letters and reports. "
    for number, size in enumerate(sizes):
        half = int(size * scale / 2)
        path = folder / f"{number // 200:03}" / f"{number:05}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(chance.randbytes(half) + (line * (half // len(line) + 1))[:half])
        total += 2 * half
    return total


class Server:
    """A rest-server with TLS on this machine."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.pem = folder / "server.pem"
        key = folder / "server.key"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=benchmark"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(self.pem)]
        subprocess.run(command, check=True, capture_output=True)
        self.path = folder / "repositories"
        arguments = ["--path", self.path, "--listen", f"127.0.0.1:{PORT}", "--append-only", "--no-auth"]
        arguments += ["--tls", "--tls-cert", self.pem, "--tls-key", key]
        self.process = subprocess.Popen(
            [str(programs / "restic-rest-server"), *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1)
        if self.process.poll() is not None:
            sys.exit("restic-rest-server ended at once: is its port taken?")


class Side:
    """One of the two, with a repository, a cache and settings of its own."""

    def __init__(self, name: str, folder: Path, data: Path, server: Server, programs: Path, same_as: str = "") -> None:
        self.name, self.data, self.programs = name, data, programs
        self.folder = folder / name
        etc = self.folder / "etc"
        for path in (etc / "jobs", etc / "credentials", self.folder / "run", self.folder / "state"):
            path.mkdir(parents=True)
        shutil.copy(server.pem, etc / "nas.pem")
        for secret in ("repository-password", "rest-username", "rest-password"):
            (etc / "credentials" / secret).write_text(PASSWORD + "\n", "ascii")
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RESTIC_REPOSITORY": f"{URL}/{name}/",
            "RESTIC_PASSWORD_FILE": str(etc / "credentials/repository-password"),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
            "RESTIC_REST_USERNAME": PASSWORD,
            "RESTIC_REST_PASSWORD": PASSWORD,
            "RESTIC_PROGRESS_FPS": "0.016",
        }
        self.restic = [str(programs / "restic"), "--cacert", str(etc / "nas.pem"), "--retry-lock", "5m"]
        if same_as:
            shutil.copytree(server.path / same_as, server.path / name)
        else:
            subprocess.run([*self.restic, "init"], env=self.environment, check=True, capture_output=True)
        command = [*self.restic, "cat", "config", "--no-cache"]
        done = subprocess.run(command, env=self.environment, check=True, capture_output=True)
        job = {"schema": 1, "practice": "benchmark", "host": "here", "name": "files", "item": "files"}
        job |= {"calendar": ["daily"], "repository": {"url": f"{URL}/{name}/", "username": PASSWORD}}
        job |= {"paths": [str(data)], "must_have": [str(data)]}
        (etc / "jobs/files.json").write_text(json.dumps(job), "ascii")
        (etc / "practice.json").write_text(json.dumps({"practice": "benchmark", "host": "here"}), "ascii")
        repository = json.loads(done.stdout)["id"]
        (etc / "repository.json").write_text(json.dumps({"id": repository}), "ascii")
        if name == "agent":
            self._install(repository)

    def _install(self, repository: str) -> None:
        """Do what the module that installs the agent does once: remember the repository, and start the program."""
        from ansible_collections.holdfast.practice.plugins.module_utils import agent_host, agent_repository, backup_nas

        config = backup_nas.config(f"{URL}/{self.name}/", str(self.folder / "etc/nas.pem"), PASSWORD, PASSWORD)
        seen = {"": agent_repository.sight(repository, config or b"")}
        agent_repository.remember(agent_host.Places(state=self.folder / "state"), seen)
        text = LAUNCHER.format(repository=REPOSITORY, folder=self.folder, programs=self.programs)
        (self.folder / "agent").write_text(text, "ascii")
        subprocess.run([*self._agent(), "--help"], check=True, stdout=subprocess.DEVNULL)

    def _agent(self) -> list[str]:
        return [sys.executable, "-IB", str(self.folder / "agent")]

    def run(self) -> dict[str, float]:
        """Back up once; what it took."""
        if self.name == "agent":
            command, said = [*self._agent(), "run", "files"], b""
        else:
            tags = [part for name in ("practice", "job", "run", "part") for part in ("--tag", f"{name}=benchmark")]
            command = [*self.restic, "backup", "--json", "--host", "here", *tags, "--files-from-raw", "-"]
            said = os.fsencode(self.data) + b"\0"
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        watch = Watch(process.pid)
        out, _err = process.communicate(said)
        wall = time.perf_counter() - began
        watch.over.set()
        watch.join()
        if process.returncode != 0:
            sys.exit(f"{self.name} ended with {process.returncode}: {out.decode()[-2000:]}")
        return {"wall": wall, "peak": watch.peak / 2**20, "read": watch.read / 1e6}


class Watch(threading.Thread):
    """Look at the memory of a process and those below it, and at what the process itself reads, until it is over."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.read, self.over = pid, 0, 0, threading.Event()
        self.start()

    def run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self.over.wait(0.02):
            total = 0
            for pid in [self.pid, *self._below()]:
                try:
                    total += int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * page
                except (OSError, IndexError):  # it ended meanwhile
                    continue
            self.peak = max(self.peak, total)
            try:
                self.read = int(Path(f"/proc/{self.pid}/io").read_text("ascii").split()[1])
            except (OSError, IndexError):
                continue

    def _below(self) -> list[int]:
        try:
            tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
            return [int(pid) for task in tasks for pid in (task / "children").read_text("ascii").split()]
        except OSError:
            return []


def compare(pairs: int, folder: Path, data: Path, programs: Path, total: int) -> bool:
    """Run the pairs and print what came out; says whether the limits are kept."""
    server = Server(programs, folder)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    try:
        for pair in range(pairs):
            bare = Side("bare", folder / f"pair{pair}", data, server, programs)
            # what opening takes is in the key, as fast as the machine happened to be when it was made
            agent = Side("agent", folder / f"pair{pair}", data, server, programs, "bare")
            order = [bare, agent] if pair % 2 else [agent, bare]
            for which in ("first", "second"):
                for side in order:
                    os.sync()
                    found.setdefault((which, side.name), []).append(side.run())
            for which in ("first", "second"):
                theirs, ours = found[which, "bare"][-1], found[which, "agent"][-1]
                more, load = ours["read"] - theirs["read"], os.getloadavg()[0]
                print(
                    f"  pair {pair + 1}, {which} run: {theirs['wall']:6.2f} s bare, {ours['wall']:6.2f} s agent; "
                    f"{theirs['peak']:4.0f} and {ours['peak']:4.0f} MiB; {more:5.0f} MB read more; load {load:.1f}",
                    flush=True,
                )
            shutil.rmtree(folder / f"pair{pair}")
            shutil.rmtree(server.path)
            server.path.mkdir()
    finally:
        server.process.terminate()
        server.process.wait()
    return judge(found, total)


def judge(found: dict[tuple[str, str], list[dict[str, float]]], total: int) -> bool:
    """Print medians and spreads; says whether the limits are kept."""
    print(
        f"\n{'run':>7} {'bare, s':>8} {'agent, s':>8} {'ratio':>6} {'spread':>13} {'more, s':>8} {'more, MiB':>9} {'read, MB':>9}"
    )
    good = True
    for which in ("first", "second"):
        bare, ours = found[which, "bare"], found[which, "agent"]
        ratios = sorted(b["wall"] / a["wall"] for a, b in zip(bare, ours, strict=True))
        more = statistics.median(b["wall"] - a["wall"] for a, b in zip(bare, ours, strict=True))
        memory = statistics.median(b["peak"] - a["peak"] for a, b in zip(bare, ours, strict=True))
        walls = [statistics.median(each["wall"] for each in side) for side in (bare, ours)]
        read = statistics.median(b["read"] - a["read"] for a, b in zip(bare, ours, strict=True))
        ratio = statistics.median(ratios)
        print(
            f"{which:>7} {walls[0]:>8.2f} {walls[1]:>8.2f} {ratio:>6.3f} {f'{ratios[0]:.3f}-{ratios[-1]:.3f}':>13} "
            f"{more:>8.2f} {memory:>9.0f} {read:>9.0f}"
        )
        if which == "first":
            good = good and ratio <= 1.05 and memory <= 40
        else:
            good = good and walls[1] <= 1.15 * walls[0] + 1 and read * 1e6 < total * 0.05
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="folder with restic and restic-rest-server")
    parser.add_argument("--files", type=int, default=40_000)
    parser.add_argument("--megabytes", type=int, default=3_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--line", help="speed of a line between the two and the server, such as 1gbit (needs root)")
    options = parser.parse_args()
    if options.line and not os.environ.get(LINE_LAID):
        command = ["unshare", "--net", "sh", "-c", LINE, options.line, *sys.orig_argv]
        return subprocess.run(command, env={**os.environ, LINE_LAID: "1"}, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="holdfast-benchmark-") as folder:
        data = Path(folder, "data")
        data.mkdir()
        total = make_data(data, options.files, options.megabytes)
        print(
            f"{options.files} files, {total / 1e6:.0f} MB, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
        )
        good = compare(options.pairs, Path(folder), data, options.bin.resolve(), total)
    print(f"\nlimits ({LIMITS}): {'kept' if good else 'NOT KEPT'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
