# SPDX-License-Identifier: Apache-2.0
"""What has become of the files since a run of long ago, for signs of harm that come too slowly for the agent to see.

The agent compares each run with the one before. Somebody who spoils five files a day stays below what it takes for a sign;
a month later there are a hundred. And content that changed while size and time stayed is no practice at work.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from .tripwires import ENTROPY, MAGIC, Settings, ending, is_judged, wrong_looks
from .verify import SPOILT_PERCENT, Reason, Run, utc
from .verify_files import DROPPED, EXTRA, JUDGED, MISSING, Index


class Changes(NamedTuple):
    """Of ``before`` files of then ``same`` have the same content, ``changed`` another one, and the rest is ``gone``.

    silent: of the changed ones those with the size and the time of then; silent_spoilt: of these those that do not look like
    their type.
    """

    before: int = 0
    same: int = 0
    changed: int = 0
    gone: int = 0
    silent: int = 0
    silent_spoilt: int = 0


class Since:
    """Holds the manifest of then against what was restored now. ``take`` fits ``verify_oracle.read_oracle``.

    looks: of the files whose content is that of then, by ending and look.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._counts: Counter[str] = Counter()
        self.looks: Counter[tuple[str, str]] = Counter()

    def take(self, kind: str, entry: Any) -> None:
        """Compare an entry of the manifest of then."""
        if kind != "manifest" or entry.get("volatile"):
            return
        self._counts["before"] += 1
        have = self._index.known(entry["path"])
        if have is None or have.state in (DROPPED, EXTRA, MISSING):
            self._counts["gone"] += 1
        elif have.volatile:
            self._counts["changed"] += 1
        elif have.blake2b == entry["blake2b"]:
            self._counts["same"] += 1
            which = ending(entry["path"])
            if is_judged(which, JUDGED):
                self.looks[which, have.look] += 1
        else:
            self._counts["changed"] += 1
            silent = (have.size, have.mtime_ns) == (str(entry["size"]), str(entry["mtime_ns"]))
            self._counts["silent"] += silent
            self._counts["silent_spoilt"] += silent and bool(have.look)

    @property
    def changes(self) -> Changes:
        """What came of it."""
        return Changes(**self._counts)


def check_since(
    noted: Mapping[str, Any],
    looks: Mapping[tuple[str, str], int],
    since: Since,
    run: Run,
) -> tuple[list[Reason], list[Reason]]:
    """(reasons to fail, notes). noted: the oracle's ``tripwires``. looks: of all files now. run: the one of then."""
    judged = noted.get("judged", (MAGIC, ENTROPY))
    least = int(noted.get("least") or Settings.least)
    then = time.strftime("%Y-%m-%d", time.gmtime(run.arrived))
    changes, reasons, notes = since.changes, [], []
    # runs between then and now may be spoilt as well, whatever their agent saw
    fine = f"They were fine in the run of oracle snapshot {run.oracle.id[:8]}, arrived {utc(run.arrived)}"
    # what was there and fine with everybody is not judged again
    files, wrong = wrong_looks({each: count - since.looks.get(each, 0) for each, count in looks.items()}, judged)
    # a person knows of so many that look wrong; those that were there already are among them
    known = max(0, int(noted.get("accepted") or 0) - wrong_looks(since.looks, judged)[1])
    fresh = wrong - known
    if fresh >= least and fresh * 100 >= files * SPOILT_PERCENT:
        text = f"{wrong} of {files} files that are new or changed since {then} do not look like their type: encrypted?"
        reasons.append(Reason("changed_spoilt", f"{text} {fine}"))
    if changes.silent:
        text = f"{changes.silent} files have other content than on {then} with the size and time that they had"
        spoilt = changes.silent_spoilt - known
        if spoilt > 0:
            text += f", and {changes.silent_spoilt} of them do not look like their type"
        if spoilt > 0 or changes.silent >= least:
            reasons.append(Reason("changed_silently", f"{text}. {fine}"))
        else:
            notes.append(Reason("changed_silently", text))
    if changes.gone * 2 > changes.before:
        text = f"of {changes.before} files of {then}, {changes.gone} are gone or have other names"
        notes.append(Reason("many_gone", text))
    return reasons, notes
