"""bn's own cache protocol, by what is asked for; store/README.md describes it."""
