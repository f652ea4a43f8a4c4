"""What to run and where: spec, graph, plan, placement, build loop, command line."""

__version__ = "0.1.0"
