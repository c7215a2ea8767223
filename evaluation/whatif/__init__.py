"""Recorded traffic decided again under another catalog or model."""
