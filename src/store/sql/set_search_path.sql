-- set_search_path: where this session looks for unqualified names, until it ends. $1 path. Caller: migrate.
select set_config('search_path', $1, false)
