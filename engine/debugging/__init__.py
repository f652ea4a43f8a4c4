"""The debugger: a build held before each placement, looked into, and led."""
