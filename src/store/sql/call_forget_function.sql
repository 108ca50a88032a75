-- call_forget_function: call a function of the application that forgets a person in its own tables. {function} is its name. $1 subject. Caller: forgetting.
select count(*) from (select {function}($1)) as called
