"""Arguments for constructors that nobody called for us: from calls that exist, from settings, from names and uses."""
