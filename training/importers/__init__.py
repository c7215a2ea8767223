"""Importers: from other people's logs to the three tables and a catalog to start from."""
