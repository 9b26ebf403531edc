"""What judges a recorded campaign: pure functions from recordings to violations."""
