"""The store seen as a file system."""
