"""Dead letters: read, counted, shown and replayed by `retail-stream dlq`."""
