"""What policies are worth, cross-fitted, with intervals."""
