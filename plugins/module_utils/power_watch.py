# SPDX-License-Identifier: Apache-2.0
"""When does a host stop answering, or begin to? Times are seconds on the watcher's own monotonic clock."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any, Callable

# answered at the door, although nobody is at home: the kernel of the host is up
REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)
# our own end is cut: says nothing about the host
OURS = (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.EPERM, errno.EACCES)


class WatchError(Exception):
    """The watcher itself cannot see; nothing may be concluded about the hosts."""


@dataclass
class Track:
    """What a row of probes of one host tells.

    The host went off after ``last_answer_s`` and not later than ``gone_s``, the start of the first probe of the silence.
    A silence counts once it has lasted ``confirm_s``: a single lost packet is not an outage.
    """

    confirm_s: float
    last_answer_s: float | None = None
    gone_s: float | None = None
    back_s: float | None = None
    gone: bool = False

    def note(self, at_s: float, answered: bool, now_s: float) -> None:
        """Take in one probe that began at ``at_s``; ``now_s`` is when its outcome was known."""
        if answered:
            if self.back_s is None:
                self.back_s = at_s
            self.last_answer_s = at_s
            if not self.gone:
                self.gone_s = None
            return
        if self.gone_s is None:
            self.gone_s = at_s
        if now_s - self.gone_s >= self.confirm_s:
            self.gone = True


def probe(address: str, port: int, timeout_s: float, connect: Callable[..., Any] = socket.create_connection) -> bool:
    """Knock once. True: the host's kernel answers, even if only to refuse. Raises WatchError when we are cut off."""
    try:
        connect((address, port), timeout=timeout_s).close()
    except OSError as error:
        if error.errno in REFUSED:
            return True
        if error.errno in OURS:
            raise WatchError(
                f"cannot reach {address} because of this machine's own network ({error}); mend that, then drill again"
            ) from error
        return False
    return True
