"""Listeners, offers and outcomes of which the truth is known."""
