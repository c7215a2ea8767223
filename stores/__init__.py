"""Every adapter that talks to the outside: one port, one contract suite, several twins."""
