-- guard_adoption_function: whoever could make a trigger of it could record any event. {function}.
revoke all on function {function}() from public
