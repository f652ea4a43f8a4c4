"""How an action runs: hermetic sandbox, unisolated, later simulated and remote."""
