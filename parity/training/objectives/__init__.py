"""What training minimises and how: losses, optimisers, schedules, policies, averaging of weights."""
