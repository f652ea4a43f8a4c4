"""Sources made real: directories ingested, archives fetched, checked and unpacked."""
