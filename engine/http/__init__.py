"""The cache server: one store over HTTP, in the protocols of many build tools."""
