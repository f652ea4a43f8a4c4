"""What to run and where: spec, graph, plan, placement, build loop, command line."""
