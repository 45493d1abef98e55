"""The two clouds, side by side: each has the same files and knows nothing of the other."""
