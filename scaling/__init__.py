"""Engines: who does work that comes in parts, this machine or Ray on many. The one room that knows Ray."""
