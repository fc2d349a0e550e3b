"""One file per op family: how each op transforms a value, and the cotangent that comes back to it."""
