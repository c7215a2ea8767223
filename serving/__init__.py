"""The API: from a request to a logged decision."""
