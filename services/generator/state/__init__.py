"""What a restart goes on from: entries of `generator.state`, and how they are read back."""
