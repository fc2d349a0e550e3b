"""What a repository says about its models: calls of their classes, settings, and inputs that scripts feed.

Everything here reads source text; a name is imported only when a value turns on it.
"""
