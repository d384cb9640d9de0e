"""Loss terms: from the outputs and labels of all tasks to one task's loss per row."""
