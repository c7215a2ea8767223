"""What requests read and write of users: in this process's memory, on one server, or on a cluster."""
