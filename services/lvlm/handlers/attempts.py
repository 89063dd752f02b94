"""How often a language model is asked."""

ATTEMPT_COUNT = 3
"""What it refuses, or answers so that it can't be read, is asked this often in all, each time with another seed; then it FAILED."""
