"""From logs and snapshots to a registered, promoted model."""
