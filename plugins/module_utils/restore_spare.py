# SPDX-License-Identifier: Apache-2.0
"""Decide about a spare machine that proofs run on; no file, command or clock in here.

A spare machine is not thrown away with its disk, so everything that restored data may touch is covered: a folder of the
encrypted store is mounted over it, with what was in it, and taken away again. Only the machine's own control connection
passes its packet filter, and the NAS as long as restic reads from it.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

MARK = "/etc/holdfast-spare"
RUN = "/run/holdfast-restore"
UNIT = "holdfast-restore-wipe"
TABLE = "holdfast_restore"
# where in the store covers are, as the kernel names the root of their mounts
COVERS = "/data/covers/"
VOLATILE = "/run/systemd/journald.conf.d/holdfast-restore.conf"


class SpareError(Exception):
    """Something a person has to know about: what was expected, what came, what to do."""


@dataclass(frozen=True)
class Mark:
    """What was found at MARK. mode is of the file alone."""

    text: str
    regular: bool
    owner: int
    mode: int


def check_mark(mark: Mark | None, practice: str, name: str) -> None:
    """Refuse a machine that nobody gave up for this. Raises SpareError."""
    wanted = f"{practice}/{name}"
    how = (
        f"Expected a file {MARK} of root's that says {wanted}. Everything on this machine may be lost in proofs: when that is "
        f"meant, log in there and write it (echo {wanted} > {MARK})"
    )
    if mark is None:
        raise SpareError(f"nobody has given this machine up for proofs. {how}")
    if not mark.regular or mark.owner != 0 or mark.mode & 0o022:
        raise SpareError(f"{MARK} is not a file that only root can write. {how}")
    if mark.text.strip() != wanted:
        raise SpareError(f"this machine is given up for another proof. {how}")


def control_of(connection: str) -> tuple[str, int]:
    """Take (address of the control node, port of the ssh server) from SSH_CONNECTION. Raises SpareError without one."""
    parts = connection.split()
    try:
        return str(ipaddress.ip_address(parts[0])), int(parts[3])
    except (ValueError, IndexError):
        raise SpareError(
            "the session does not say from where it comes (SSH_CONNECTION), so the network cannot be cut around it. Expected a "
            "login as root over ssh: write access: {user: root} in the practice document"
        ) from None


def rules(control: tuple[str, int], nas: Sequence[tuple[str, int]]) -> str:
    """Give the packet filter, whole: nothing in or out but to itself, the control node's sessions, and the NAS if named."""
    address, port = control
    family = _family(address)
    lines_in = [f"{family} saddr {address} tcp dport {port} accept"]
    lines_out = [f"{family} daddr {address} tcp sport {port} accept"]
    for there, service in nas:
        family = _family(there)
        lines_in.append(f"{family} saddr {there} tcp sport {service} ct state established accept")
        lines_out.append(f"{family} daddr {there} tcp dport {service} accept")
    # without neighbours nothing reaches anybody: ndp is IPv6's, arp is below this table
    ndp = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    return "\n".join(
        [
            f"table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            " chain input { type filter hook input priority -300; policy drop;",
            *(f"  {line}" for line in ["iif lo accept", ndp, *lines_in]),
            " }",
            " chain forward { type filter hook forward priority -300; policy drop; }",
            " chain output { type filter hook output priority -300; policy drop;",
            *(f"  {line}" for line in ["oif lo accept", ndp, *lines_out]),
            "  counter name refused drop",
            " }",
            " counter refused { }",
            "}",
            "",
        ]
    )


def _family(address: str) -> str:
    return "ip6" if ":" in address else "ip"


def covers(folders: Sequence[str], data: str) -> list[tuple[str, str]]:
    """Give (what is covered, the folder of the store over it); no folder is covered twice."""
    found: list[tuple[str, str]] = []
    for folder in folders:
        plain = "/" + folder.strip("/")
        if plain == "/" or any(plain == done or plain.startswith(done + "/") for done, _over in found):
            raise SpareError(f"{folder} cannot be covered: expected different folders below /, none in another")
        found.append((plain, f"{data}/covers/{plain.strip('/').replace('/', '-')}"))
    return found


def stopped(units: Sequence[str]) -> list[str]:
    """What has to be stopped for services to be off: a unit that only stands for its instances does not wait for them."""
    return [
        *units,
        *(f"{unit[: -len('.service')]}@*.service" for unit in units if unit.endswith(".service") and "@" not in unit),
    ]


def covered(mountinfo: str) -> list[str]:
    """Name what is covered now, from /proc/self/mountinfo. Other file systems may be mounted at the same folders."""
    rows = (line.split() for line in mountinfo.splitlines())
    return [row[4] for row in rows if len(row) > 4 and row[3].startswith(COVERS)]


def wipe_script(place: str, restored: str, units: Sequence[str]) -> str:
    """Give the program that takes everything away: run at the end of a proof, or by the machine's own timer when nobody comes.

    With ``release`` it leaves the store, whose key the caller then destroys. restored: the folder of restored files.
    """
    q = shlex.quote
    return f"""#!/bin/sh
# Takes restored data away from this machine. Written by Holdfast for one proof.
set -u
failed=0
uncover() {{ # each mount of the store but the store itself, the newest first
    tries=0
    while folder=$(awk '$4 ~ "^{COVERS}" {{ found = $5 }} END {{ print found }}' /proc/self/mountinfo) && [ -n "$folder" ]; do
        umount "$folder" || {{ tries=$((tries + 1)); [ $tries -lt 40 ] || {{ failed=1; return; }}; sleep 0.5; }}
    done
}}
# a restore that its caller was killed in goes on by itself
find /proc/[0-9]*/fd -lname {q(restored + "/*")} 2>/dev/null | cut -d / -f 3 | sort -u | xargs -r kill -9
{f"systemctl stop {' '.join(q(unit) for unit in stopped(units))}" if units else ": no service to stop"}
uncover
rm -f {q(VOLATILE)}
systemctl restart systemd-journald.service
if [ "${{1:-all}}" = all ] && [ $failed = 0 ]; then
    # the last user of the key goes with the mount, and the key with it
    umount {q(place)}/store && rm -rf --one-file-system {q(place)} || failed=1
fi
[ $failed = 1 ] || nft delete table inet {TABLE}
exit $failed
"""
