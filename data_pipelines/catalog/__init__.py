"""Lists the files of a split, reads their footers once, and compares their schemas."""
