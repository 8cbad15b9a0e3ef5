# SPDX-License-Identifier: Apache-2.0
"""Which objects of PostgreSQL's catalogue are a practice's own: parts of SQL over pg_namespace n and pg_class c."""

from __future__ import annotations

USER_SCHEMA = "n.nspname <> 'information_schema' and n.nspname !~ '^pg_'"
NOT_OF_EXTENSION = """not exists (
    select from pg_depend d where d.deptype = 'e' and d.classid = '{catalogue}'::regclass and d.objid = {oid})"""
RELATION = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
OWN_RELATION = USER_SCHEMA + " and " + NOT_OF_EXTENSION.format(catalogue="pg_class", oid="c.oid")
