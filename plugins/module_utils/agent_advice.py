# SPDX-License-Identifier: Apache-2.0
"""What a person does about each reason that a run may give. One place; the role's README names the same codes."""

from __future__ import annotations

_SITE = "run site.yml for this host"
_DISK = "look whether a disk is not mounted, or a folder was renamed"
_SUSPECT = (
    "look at what changed before anything else: holdfast-agent clear JOB shows it; restore from the last clean run"
)
_AGAIN = "nothing has to be unlocked; the next run starts anew"

ADVICE = {
    "account_lacks_rights": _SITE,
    "certificate_expired": "renew the certificate of the NAS and run site.yml; check both clocks",
    "certificate_mismatch": "find out who answers at the NAS's address; run site.yml if it was renewed on purpose",
    "copy_not_removed": "remove the copy that is named in /var/tmp",
    "coverage_gap": "run the job again; if it stays, look for a folder that changes faster than it can be read",
    "credentials_missing": _SITE,
    "database_busy": "another program holds the database; the next run tries again",
    "database_empty": "check that it is the right database and that its disk is mounted",
    "database_locked": "another program holds the database; the next run tries again",
    "database_missing": _DISK,
    "database_unclean": "start the database's own program once, so that it mends it",
    "database_unreachable": "look whether the database server runs: systemctl status",
    "dump_failed": "the engine's own words are in the reason; nothing was kept of this dump",
    "dump_missing": "take another run: holdfast-agent snapshots JOB",
    "dump_timeout": "look for a locked table or an overloaded server; a dump that really needs longer: dump_limit",
    "dump_truncated": "take another run: holdfast-agent snapshots JOB",
    "engine_too_old": "have the software's vendor move the database to Firebird 4",
    "files_differ": "take another run, and have the NAS's disks looked at: a proof (prove.yml) finds out what is damaged",
    "files_missing": "take another run, and have the NAS's disks looked at: a proof (prove.yml) finds out what is damaged",
    "files_unreadable": "look at the disk's health (smartctl, dmesg) and at the rights of the folder",
    "host_full": "make room on this host: df -h /var/lib/holdfast; then run the job again",
    "identity_mismatch": "stop: this is another practice's machine, or somebody replaced the repository; find out which",
    "images_missing": "ask the software's vendor where the missing images are, or restore them from an earlier run",
    "images_query_failed": "correct the query in the practice document",
    "internal_error": "report it with the journal's lines; the run before this one is still there",
    "job_invalid": _SITE,
    "killed": _AGAIN,
    "login_refused": _SITE,
    "mount_gone": "look at the machine that serves the volume, and at the network",
    "mount_missing": "mount the volume; if the data was moved for good, write mounts: [] for the item",
    "must_have_excluded": "correct exclude: in the practice document",
    "must_have_missing": _DISK,
    "nas_error": "look at the backup server's journal on the NAS",
    "nas_full": "make room on the NAS, or raise this host's quota",
    "nas_unreachable": "look whether the NAS is on and on the network: ping it from here",
    "never_ran": "start it once: holdfast-agent run JOB",
    "not_a_database": _DISK,
    "not_enough_space": "make room in the folder that the reason names",
    "no_oracle": "look at the files yourself, or take a complete run: holdfast-agent snapshots JOB",
    "nothing_compared": "look at the files yourself, or take another run",
    "nothing_restored": "take another run: holdfast-agent snapshots JOB",
    "out_of_memory": "look what else uses the memory; nothing has to be unlocked",
    "path_empty": _DISK,
    "path_is_link": "name the link's target in the practice document",
    "path_missing": _DISK,
    "path_vanished": _DISK,
    "probe_failed": "correct the probe in the practice document",
    "query_failed": "the engine's own words are in the reason",
    "repository_locked": "maintenance may be running on the NAS; the next run tries again",
    "repository_missing": "stop: find out who removed the repository on the NAS; nothing is created anew here",
    "rest_forbidden": "the host's account and its address differ: run site.yml for host and NAS",
    "rest_login_refused": "the account's password differs between host and NAS: run site.yml for both",
    "restic_missing": _SITE,
    "restic_too_old": "give the hosts a newer restic: programs.restic in the practice document",
    "schema_changed": "tables were changed during the dump; run the job again",
    "stopped": _AGAIN,
    "suspect_canary": _SUSPECT,
    "suspect_change": _SUSPECT,
    "suspect_entropy": _SUSPECT,
    "suspect_magic": _SUSPECT,
    "suspect_rename": _SUSPECT,
    "view_moved": "run the job again; better at a time when nobody has had a window open for long",
    "tables_external": "protect the files in which these tables lie as paths of their own",
    "tables_not_transactional": "ALTER TABLE ... ENGINE=InnoDB, with the software's vendor",
    "time_limit": "find out why it takes so long, or raise time_limit in the practice document",
    "too_few_files": _DISK,
    "too_small": _DISK,
    "window_ended": "give the item a wider window, or at_window_end: throttle",
    "wrong_repository_password": "the vault's password is not the one that the repository was made with; do not change either",
}


def advice(code: str, job: str) -> str:
    """What to do about a reason; for one that is not known, where its run's own words are."""
    known = ADVICE.get(code, "read what the run said: journalctl -t holdfast-backup -u 'holdfast-backup@JOB'")
    return known.replace("JOB", job)
