"""Other people's poisons: reading them safely, and writing ours for their programs."""
