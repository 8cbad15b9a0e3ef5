# SPDX-License-Identifier: Apache-2.0
"""What a proof's restore and comparison cost over bare ``restic restore`` of the same snapshot, from a rest-server with TLS.

    .venv/bin/python benchmarks/restore_compare.py --bin FOLDER           40,000 files, 3 GB, 5 pairs; some ten minutes
    .venv/bin/python benchmarks/restore_compare.py --bin FOLDER --files 300000 --megabytes 300 --pairs 1

FOLDER holds restic and restic-rest-server as Debian 13 has them. The agent backs the files up once; a pair restores that
snapshot with bare restic and with the code of a proof (without its chroot), each into an empty folder; which of them begins
changes from pair to pair. "Restore and compare" is what the proof itself takes the time of; "whole" is its process from start
to end, with opening the repository, choosing the run, reading the oracle and measuring the restore. CPU is that of restic and of
the proof, without the server: it says more than time where other work shares the processors. Memory is the largest that the
proof's own process had, and the largest sum of it and restic.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_overhead import PASSWORD, Server, Side, Watch, make_data

LIMITS = "restore and compare: 1.25 times the bare restore; memory of the proof's process: 300 MB"
RATIO, MEMORY_MB = 1.25, 300.0


def bare(side: Side, snapshot: str, target: Path) -> dict[str, float]:
    """Restore with restic alone."""
    command = [*side.restic, "--no-cache", "--no-lock", "restore", "--json", snapshot, "--target", str(target)]
    began, used = time.perf_counter(), cpu_s(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=side.environment, check=True, stdout=subprocess.DEVNULL)
    return {"wall": time.perf_counter() - began, "cpu": cpu_s(resource.RUSAGE_CHILDREN) - used}


def cpu_s(whose: int) -> float:
    """Seconds of processor time."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def ours(side: Side, programs: Path, target: Path) -> dict[str, float]:
    """Restore and compare as a proof does, in a process of its own."""
    command = [sys.executable, __file__, "--child", str(target), "--side", str(side.folder), "--bin", str(programs)]
    began, used = time.perf_counter(), cpu_s(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=side.environment, stdout=subprocess.PIPE)
    watch = Watch(process.pid)
    out, _err = process.communicate()
    wall = time.perf_counter() - began
    watch.over.set()
    watch.join()
    found = json.loads(out)
    if process.returncode != 0 or found["verdict"] != "PASS":
        sys.exit(f"the proof did not pass: {out.decode()[-2000:]}")
    phases = found["figures"]["phases"]
    return {
        "whole": wall,
        "cpu": cpu_s(resource.RUSAGE_CHILDREN) - used,
        "own_cpu": found["own_cpu_s"],
        "wall": phases["restore_s"] + phases["compare_s"],
        "compare": phases["compare_s"],
        "files": found["figures"]["files"],
        "own": found["own_mb"],
        "sum": watch.peak / 1e6,
    }


def child(target: Path, folder: Path, programs: Path) -> int:
    """The fetch phase of a proof; restic runs here and not in a machine's disk."""
    from ansible_collections.holdfast.practice.plugins.module_utils import verify_host
    from ansible_collections.holdfast.practice.plugins.module_utils.verify import Wanted

    root = str(target / "root")

    def run(argv: Sequence[str], env: Mapping[str, str], *rest: Any, **listen: Any) -> verify_host.Done:
        here = [root + word if word.startswith(verify_host.PLACE) else word for word in argv[3:]]
        return verify_host.run([str(programs / "restic"), *here], env, *rest, **listen)

    wanted = Wanted("benchmark", "files", "files", "here", PASSWORD, 1e6, 1e6, ("arrival", "files"))
    repository = {"url": os.environ["RESTIC_REPOSITORY"], "username": PASSWORD}
    repository["certificate"] = (folder / "etc/nas.pem").read_text("ascii")
    restic = verify_host.MachineRestic(root, repository, PASSWORD, PASSWORD, 7200, run)
    listed = restic.ask_json("listing", "snapshots")
    arrivals = {row["id"]: time.time() for row in listed}
    found = verify_host.Fetch(wanted, str(target), restic, arrivals, [], time.time()).do()
    found["own_cpu_s"] = cpu_s(resource.RUSAGE_SELF)
    # ru_maxrss begins with what the process had that started this one
    status = Path("/proc/self/status").read_text("ascii")
    found["own_mb"] = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    print(json.dumps(found))
    return 0


def measure(pairs: int, folder: Path, programs: Path, data: Path) -> bool:
    """Run the pairs and print what came out; says whether the limits are kept."""
    server = Server(programs, folder)
    found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    try:
        side = Side("agent", folder, data, server.pem, programs)
        print(f"the agent backed it up in {side.run()['wall']:.0f} s", flush=True)
        command = [*side.restic, "snapshots", "--json", "--tag", "part=files"]
        done = subprocess.run(command, env=side.environment, check=True, capture_output=True)
        (snapshot,) = (row["id"] for row in json.loads(done.stdout))
        shutil.rmtree(data)
        for pair in range(pairs):
            for which in ("bare", "ours") if pair % 2 else ("ours", "bare"):
                target = folder / f"restored-{which}"
                (target / "root").mkdir(parents=True)
                os.sync()
                done_now = bare(side, snapshot, target / "root") if which == "bare" else ours(side, programs, target)
                found[which].append(done_now)
                shutil.rmtree(target)
            alone, proof = found["bare"][-1], found["ours"][-1]
            print(
                f"  pair {pair + 1}: {alone['wall']:6.2f} s bare, {proof['wall']:6.2f} s restore and compare (compare "
                f"{proof['compare']:5.2f} s), {proof['whole']:6.2f} s whole; CPU {alone['cpu']:5.1f} s and "
                f"{proof['cpu']:5.1f} s, own {proof['own_cpu']:4.1f} s; {proof['own']:4.0f} MB own, {proof['sum']:4.0f} MB with "
                f"restic; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    finally:
        server.process.terminate()
        server.process.wait()
    return judge(found["bare"], found["ours"])


def judge(alone: list[dict[str, float]], proof: list[dict[str, float]]) -> bool:
    """Print medians and spreads; says whether the limits are kept."""
    ratios = sorted(b["wall"] / a["wall"] for a, b in zip(alone, proof, strict=True))
    whole = statistics.median(b["whole"] / a["wall"] for a, b in zip(alone, proof, strict=True))
    cpu = statistics.median(b["cpu"] / a["cpu"] for a, b in zip(alone, proof, strict=True))
    ratio, own = statistics.median(ratios), max(each["own"] for each in proof)
    print(
        f"\nbare {statistics.median(each['wall'] for each in alone):.2f} s; restore and compare "
        f"{statistics.median(each['wall'] for each in proof):.2f} s, of it compare "
        f"{statistics.median(each['compare'] for each in proof):.2f} s; ratio {ratio:.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f}); "
        f"whole {whole:.3f}; CPU of the whole {cpu:.3f}; {own:.0f} MB own, {max(each['sum'] for each in proof):.0f} MB with "
        "restic"
    )
    return ratio <= RATIO and own <= MEMORY_MB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="folder with restic and restic-rest-server")
    parser.add_argument("--files", type=int, default=40_000)
    parser.add_argument("--megabytes", type=int, default=3_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; it needs three times the data")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    programs = options.bin.resolve()
    if options.child:
        return child(options.child, options.side, programs)
    with tempfile.TemporaryDirectory(prefix="holdfast-benchmark-", dir=options.folder) as folder:
        data = Path(folder, "data")
        data.mkdir()
        total = make_data(data, options.files, options.megabytes)
        print(
            f"{options.files} files, {total / 1e6:.0f} MB, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
        )
        good = measure(options.pairs, Path(folder), programs, data)
    print(f"\nlimits ({LIMITS}): {'kept' if good else 'NOT KEPT'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
