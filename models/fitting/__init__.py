"""How models are fitted, one learner per module. Offline only: this pulls LightGBM and scikit-learn in."""
