-- forget_moments: after a rebase: the transactions of another server say nothing about the ages of events here. No parameters.
delete from moments
