"""Training: the loop, what it reads, and its rules. It knows no recipe and no store."""
