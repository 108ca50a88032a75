-- leave_instance: a graceful stop. $1 id.
delete from instances where id = $1
