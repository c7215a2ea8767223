"""What was decided and what followed: written line by line, sealed, shipped, compacted, kept and read."""
