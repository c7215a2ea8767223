"""What an offer is, what a rule means, how one decision is made. Pure: no I/O, no clock, no randomness."""
