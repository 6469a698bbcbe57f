"""Detection: find out whether a trained network has a backdoor, or which inputs carry its trigger."""
