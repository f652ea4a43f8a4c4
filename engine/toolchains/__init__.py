"""Toolchains of this machine imported as trees."""
