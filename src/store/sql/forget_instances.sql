-- forget_instances: the relays of another server are not ours. No parameters.
delete from instances
