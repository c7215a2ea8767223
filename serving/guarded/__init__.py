"""The online store behind a circuit breaker, and what waits while it is down."""
