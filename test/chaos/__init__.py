"""The fault campaign: a random schedule, clients whose history is kept, and what judges it."""
