"""The questions of docs/questions.md over a million facts and 100,000 versions."""
