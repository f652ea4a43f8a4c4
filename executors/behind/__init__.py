"""What runs behind the wall: a server that makes cells, and the cells; see server.py.

No other module of bn is there, and of Python's own only what `server.py` names loads quickly.
"""
