"""Policies compared in worlds of known truth."""
