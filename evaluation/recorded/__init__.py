"""The decision log as evidence: which records are meant, replayed, checked, and read by several processes."""
