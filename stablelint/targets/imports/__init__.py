"""Loading a user's file so that only what its models need must work."""
