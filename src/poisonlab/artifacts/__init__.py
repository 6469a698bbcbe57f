"""What the stages hand to each other: files without pickle and without anything volatile inside."""
