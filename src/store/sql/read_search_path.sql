-- read_search_path: where this very session looks for tables; the only one of the facts that is read without setting it first.
select current_setting('search_path')
