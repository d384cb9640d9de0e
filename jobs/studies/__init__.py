"""A study trains one config with several balancers and seeds, and compares their metrics."""
