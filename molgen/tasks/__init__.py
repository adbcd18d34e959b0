"""Tasks: fields, processes, network and conditions of one kind of sample."""
