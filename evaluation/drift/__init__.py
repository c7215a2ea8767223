"""What moved between two windows of the decision log."""
