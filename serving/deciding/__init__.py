"""One decision, from the bytes of a request to its record and the bytes of its answer."""
