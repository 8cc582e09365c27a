"""What a run changed in its views, read outside the sandbox after the run's last process has died."""
