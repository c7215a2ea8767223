"""The processes of one server: who supervises, who tries releases, who answers."""
