"""The protocols that the server speaks, one module each."""
