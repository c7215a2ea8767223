"""What predicts: learners, calibration, the scorer, the artifact on disk. No network."""
