"""What chemists ask for: a formula, a charge, a fragment to keep, a reward to climb."""
