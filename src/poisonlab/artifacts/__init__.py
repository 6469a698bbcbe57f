"""Files that stages pass to each other, without pickle and without volatile content."""
