"""Replay: recorded actions run again, and what comes out compared byte for byte."""
