-- remove_subject_states: remove the kept states of any stream that hold values of a person. Reads all kept states. Locks what it removes. $1 and $2: how an
-- envelope names the person. Caller: forgetting.
delete from stream_states where strpos(state::text, $1) > 0 or strpos(state::text, $2) > 0
