"""One room for each chip: what is its own, and the description that `Machine` is made from."""
