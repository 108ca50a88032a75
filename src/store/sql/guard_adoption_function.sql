-- guard_adoption_function: revoke the right to execute it: a role that could make a trigger of it could record any event. {function}.
revoke all on function {function}() from public
