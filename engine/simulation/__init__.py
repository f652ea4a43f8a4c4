"""Simulation: builds in virtual time on nodes that need not exist. README.md of engine/placement
is the chapter on it."""
