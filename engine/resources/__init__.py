"""What this machine is, how fast it is, and what of it may be used."""
