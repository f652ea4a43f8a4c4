"""How an action runs: hermetic sandbox, unisolated, simulated, later remote."""
