"""A study: one config, several balancers, several seeds; its cells, its tables, its pictures."""
