# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 -- SQL is this file's trade, and none of it comes from outside
"""Who may do what in a PostgreSQL database: its roles, their memberships, and the owner and grants of every object.

Roles belong to the cluster, so a dump of a database does not hold them; without them a restored database belongs to nobody
who can log in. What is asked here is the same in all versions from 14: the bootstrap superuser (there is always one) and
an owner's own rights on what it owns (MAINTAIN came with 17) are left out.
"""

from __future__ import annotations

from .postgresql_catalogue import NOT_OF_EXTENSION, OWN_RELATION, RELATION, USER_SCHEMA

_BOOTSTRAP = 10
_OWN_ROLE = f"r.oid <> {_BOOTSTRAP} and r.rolname !~ '^pg_'"


def _owner(column: str) -> str:
    return f"pg_get_userbyid({column})"


def _grants(acl: str, owner: str) -> str:
    """Grants to others than the owner, as one text."""
    return f"""(select string_agg(x.t, ',' order by x.t collate "C") from (
      select concat_ws(' ', case g.grantee when 0 then 'public' else pg_get_userbyid(g.grantee) end,
                       g.privilege_type, case when g.is_grantable then 'grantable' end) as t
      from aclexplode({acl}) g where g.grantee <> {owner} and g.privilege_type <> 'MAINTAIN') x)"""


_MEMBERS = f"""\
  select 'role ' || quote_ident(r.rolname) as object, concat_ws('|', 'member of', g.rolname, m.admin_option) as line
  from pg_auth_members m join pg_roles r on r.oid = m.member join pg_roles g on g.oid = m.roleid
  where {_OWN_ROLE}"""
_ROLES = f"""\
  select 'role ' || quote_ident(r.rolname) as object,
         concat_ws('|', 'role', r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
                   r.rolbypassrls, r.rolconnlimit, coalesce(r.rolvaliduntil::text, 'always'),
                   (select string_agg(c, ',' order by c collate "C") from unnest(r.rolconfig) c)) as line
  from pg_roles r where {_OWN_ROLE}"""

ROLES_SQL = f"""\
select coalesce(json_agg(json_build_array(s.object, s.line) order by s.object, s.line), '[]') from (
{_ROLES}
  union all
{_MEMBERS}
) s;"""

# [object, line] pairs
ACCESS_SQL = f"""\
select coalesce(json_agg(json_build_array(s.object, s.line)), '[]') from (
{_ROLES}
  union all
{_MEMBERS}
  union all
  select 'schema ' || quote_ident(n.nspname),
         concat_ws('|', {_owner("n.nspowner")}, {
    _grants("coalesce(n.nspacl, acldefault('n', n.nspowner))", "n.nspowner")
})
  from pg_namespace n where {USER_SCHEMA} and {NOT_OF_EXTENSION.format(catalogue="pg_namespace", oid="n.oid")}
  union all
  select {RELATION},
         concat_ws('|', {_owner("c.relowner")}, {
    _grants(
        '''coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's'::"char" else 'r'::"char" end, c.relowner))''',
        "c.relowner",
    )
})
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't' and {OWN_RELATION}
  union all
  select {RELATION}, concat_ws('|', 'column', a.attname, {_grants("a.attacl", "c.relowner")})
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  where a.attacl is not null and not a.attisdropped and c.relpersistence <> 't' and {OWN_RELATION}
  union all
  select quote_ident(n.nspname) || '.' || quote_ident(f.proname) || '()',
         concat_ws('|', pg_get_function_identity_arguments(f.oid), {_owner("f.proowner")},
                   {_grants("coalesce(f.proacl, acldefault('f', f.proowner))", "f.proowner")})
  from pg_proc f join pg_namespace n on n.oid = f.pronamespace
  where {USER_SCHEMA} and {NOT_OF_EXTENSION.format(catalogue="pg_proc", oid="f.oid")}
  union all
  select quote_ident(n.nspname) || '.' || quote_ident(y.typname) || ' (type)',
         concat_ws('|', {_owner("y.typowner")}, {
    _grants("coalesce(y.typacl, acldefault('T', y.typowner))", "y.typowner")
})
  from pg_type y join pg_namespace n on n.oid = y.typnamespace
  where y.typtype in ('d', 'e', 'r') and {USER_SCHEMA} and {NOT_OF_EXTENSION.format(catalogue="pg_type", oid="y.oid")}
  union all
  select 'defaults of ' || quote_ident({_owner("d.defaclrole")}),
         concat_ws('|', coalesce(d.defaclnamespace::regnamespace::text, ''), d.defaclobjtype,
                   {_grants("d.defaclacl", "d.defaclrole")})
  from pg_default_acl d
) s;"""

# Subscriptions are for superusers to dump; a dump without them says so in a warning only.
SUBSCRIPTIONS_SQL = """\
select to_json(count(s.oid)) from pg_subscription s join pg_database d on d.oid = s.subdbid
where d.datname = current_database();"""
