-- read_view_rights: the grants on a view, as statements that repeat them, because a view with other columns must be created again. What
-- the owner has by itself is left out. $1 the quoted name of the view.
select format('grant %s on %s to %s%s', a.privilege_type, $1,
              case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
              case when a.is_grantable then ' with grant option' else '' end)
  from pg_class c
 cross join lateral aclexplode(c.relacl) a
 where c.oid = to_regclass($1) and a.grantee <> c.relowner
union all
select format('comment on view %s is %L', $1, d.description)
  from pg_description d
 where d.objoid = to_regclass($1) and d.classoid = 'pg_class'::regclass and d.objsubid = 0
