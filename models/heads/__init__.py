"""Task heads: from a tower's output to raw numbers, a loss per row and a prediction."""
