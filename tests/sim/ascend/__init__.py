"""A simulated Ascend host; see README.md."""
