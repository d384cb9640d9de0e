"""From the scored rows of an evaluation to what its report says: figures, intervals, slices."""
