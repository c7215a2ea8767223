"""From a snapshot of features to the online store, and back to check it."""
