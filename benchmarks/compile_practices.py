# SPDX-License-Identifier: Apache-2.0
"""What reading, checking and compiling practice documents costs: many in one process, and one in Ansible's start.

    .venv/bin/python benchmarks/compile_practices.py                  everything; some minutes
    .venv/bin/python benchmarks/compile_practices.py --counts 10 100 --pairs 0

The documents are made for the run, six hosts each, in a temporary folder. A growth row is a process of its own that imports,
reads, checks and compiles all of them and keeps what it compiled. The cost of one practice is the difference of two runs of
ansible-inventory that follow each other, one with the practice and one with a list of hosts, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT_ALL_S, LIMIT_MIB, LIMIT_ONE_S, HOSTS = 15.0, 400, 0.3, 6

DOCUMENT = """\
# {name}: made for a benchmark
practice: {{id: {id}, name: "Practice {number}", country: AU, timezone: Australia/Sydney}}

contacts:
  backup_owner: {{name: Robin Example, role: practice manager, email: manager@{id}.example}}
  it_provider: {{name: Example IT, email: help@it.example}}

hours: {{mon-fri: "08:00-18:30", sat: "09:00-12:00"}}   # times in quotes

objectives: {{rpo: 24h, rto: 4h}}

access: {{user: root, key: ssh_key}}

hosts:
  {id}-nas1:
    kind: nas
    netbios_name: NAS{number:05}
    address: {net}.11
    pool: {{profile: raid1, devices: [/dev/disk/by-id/ata-{number}-a, /dev/disk/by-id/ata-{number}-b]}}
  {id}-server1: {{kind: server, address: {net}.12, protect: [clinical_db, documents]}}
  {id}-desk1: {{kind: workstation, address: {net}.13, protect: [desk_files]}}
  {id}-desk2: {{kind: workstation, address: {net}.14, protect: [desk_files]}}
  {id}-desk3: {{kind: workstation, address: {net}.15, protect: [desk_files]}}
  {id}-proof1: {{kind: restore_host, driver: nspawn, on: localhost}}   # restores are proven here

protect:
  clinical_db:
    database: {{engine: postgresql, name: clinic}}
    class: critical
    every: 4h
    images: {{query: "select path from image order by path", root: /srv/clinic/images}}
    probes:
      newest_appointment: "select max(starts) from appointment"
      newest_entry: "select max(recorded_at) from appointment"
  documents:
    paths: [/srv/clinic/documents, "/srv/clinic/Röntgen 2026"]
    must_have: [/srv/clinic/documents/letters]
    exclude: ["*.tmp", "~$*"]
    at: "21:00"
  desk_files: {{paths: [/home/reception/Documents], at: "12:30"}}

copies:
  onsite: {{on: {id}-nas1}}

retention:
  within: {{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}

power:
  ups1: {{attached_to: {id}-nas1, driver: usbhid-ups, feeds: [{id}-nas1, {id}-server1], runtime: 10m}}

prove: {{clinical_db: daily, documents: weekly, desk_files: weekly}}
"""


def generate(root: Path, count: int) -> list[Path]:
    """Write practices, each with names and addresses of its own; returns their documents."""
    documents = []
    for number in range(1, count + 1):
        name = f"practice-{number:05}"
        net = f"10.{number // 250}.{number % 250}"
        text = DOCUMENT.format(id=name, name=name, number=number, net=net)
        document = root / name / "practice.yml"
        document.parent.mkdir(parents=True)
        document.write_text(text, "utf-8")
        documents.append(document)
    return documents


def compile_all(root: Path) -> None:
    """Compile every practice below a folder and print what it took; runs in a process of its own."""
    sys.path.insert(0, str(REPOSITORY / ".collections"))
    began = time.perf_counter()
    from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import load_inventory

    imported = time.perf_counter()
    compiled = [load_inventory(document) for document in sorted(root.glob("*/practice.yml"))]
    ended = time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "practices": len(compiled),
        "hosts": sum(len(inventory.host_vars) for inventory in compiled),
        "import_s": imported - began,
        "compile_s": ended - imported,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def grow(counts: list[int], runs: int) -> bool:
    """Print the growth table; says whether the largest stays within its limits."""
    print(
        f"{'practices':>9} {'hosts':>6} {'all, s':>8} {'import, s':>9} {'each, ms':>9} {'CPU, s':>8} {'peak, MiB':>9}"
    )
    good = True
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder), count)
            command = [sys.executable, __file__, "--child", folder]
            each = [
                json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                for _ in range(runs)
            ]
        best = {key: statistics.median(run[key] for run in each) for key in each[0]}
        if (best["practices"], best["hosts"]) != (count, count * HOSTS):
            sys.exit(f"{best['practices']:.0f} practices with {best['hosts']:.0f} hosts were compiled, not {count}")
        total = best["import_s"] + best["compile_s"]
        print(
            f"{count:>9} {count * HOSTS:>6} {total:>8.2f} {best['import_s']:>9.2f} {best['compile_s'] / count * 1000:>9.2f} "
            f"{best['cpu_s']:>8.2f} {best['peak_mib']:>9.0f}"
        )
        # the fixed part of a process is not forgiven to a few practices, nor held against them
        good = (
            good and total < LIMIT_ALL_S * max(count / 1000, 1) and best["peak_mib"] < LIMIT_MIB * max(count / 1000, 1)
        )
    return good


def run_ansible(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run ansible-inventory once; returns its wall and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [str(Path(sys.executable).parent / "ansible-inventory"), *arguments, "--list"]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one(neighbours: list[int], pairs: int) -> bool:
    """Print what one practice adds to Ansible's start, by the number of its neighbours; says whether it is little enough."""
    print(f"\n{'':>16} {'wall, s':^28} {'CPU, s':^28}")
    print(f"{'neighbours':>10} {'pairs':>5}" + f" {'with':>9} {'without':>9} {'more':>8}" * 2)
    base = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    plain = {**base, "ANSIBLE_INVENTORY_ENABLED": "host_list"}
    good = True
    for count in neighbours:
        with tempfile.TemporaryDirectory() as folder:
            document = generate(Path(folder), count + 1)[count // 2]
            kinds = ((["-i", str(document)], base), (["-i", "localhost,"], plain))
            for kind in kinds:
                run_ansible(*kind)  # so that what is read from disk is in memory
            measured = [tuple(run_ansible(*kind) for kind in kinds) for _ in range(pairs)]
        print(f"{count:>10} {pairs:>5}", end="")
        for kind in (0, 1):
            more = statistics.median(with_it[kind] - without[kind] for with_it, without in measured)
            sides = [statistics.median(pair[side][kind] for pair in measured) for side in (0, 1)]
            print(f" {sides[0]:>9.2f} {sides[1]:>9.2f} {more:>8.2f}", end="")
            good = good and (kind == 1 or more < LIMIT_ONE_S)
        print()
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[10, 100, 1000], help="numbers of practices")
    parser.add_argument("--runs", type=int, default=3, help="processes for each of them; the median counts")
    parser.add_argument("--neighbours", type=int, nargs="*", default=[10, 1000])
    parser.add_argument("--pairs", type=int, default=15, help="pairs of runs of ansible-inventory; 0 leaves them out")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        compile_all(options.child)
        return 0
    good = grow(options.counts, options.runs)
    if options.pairs:
        good = one(options.neighbours, options.pairs) and good
    limits = f"1000 practices {LIMIT_ALL_S:.0f} s and {LIMIT_MIB} MiB, one practice {LIMIT_ONE_S} s"
    print(f"\nlimits ({limits}): {'kept' if good else 'NOT KEPT'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
