"""What keeps one application on Ray Serve as it was planned, over all restarts of the cluster."""
