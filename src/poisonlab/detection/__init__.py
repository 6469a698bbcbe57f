"""Detection: tell from a trained network whether it holds a backdoor, or which inputs carry the trigger."""
