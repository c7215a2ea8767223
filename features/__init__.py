"""What is known about users and offers: definitions, snapshots, vectors. No network."""
