"""The features of a music subscription, by topic. `features.definitions` puts them together."""
