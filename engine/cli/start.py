"""What the launcher starts: as `python -I -S`, because to look for site-packages takes longer than
to say that all is up to date. They are looked for when that is not so."""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/engine/")[0] or ".")
    from engine.cli.main import main

    main()
