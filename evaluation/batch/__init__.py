"""All users at once: their scores and their decisions, in parts that any engine can work on."""
