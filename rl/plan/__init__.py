"""The memory of a run before it starts: by part, from the model's configuration alone."""
