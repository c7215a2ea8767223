"""From decisions and outcomes to what a learner is taught."""
