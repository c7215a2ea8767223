"""How good a policy is: labels, off-policy estimators, policy values, replay, the simulator."""
