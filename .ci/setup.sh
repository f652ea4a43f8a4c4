# Sets up the checkout: system packages, .venv, pinned Python dependencies. Sourced by bn and check.
#
#   set_up HOME run|dev
#
# .venv/ready and .venv/ready-dev say what is in place: they name the checkout and the check sum of
# what they were made from. They are removed first and written last, so an interrupted set-up is begun
# anew. One set-up at a time; others wait on .venv.lock. All that is said goes to standard error, and
# what pip says to .venv/setup.log.

# What the sandbox needs, what pyfuse3 compiles with, and what specs/toolchains/ import
# (tests/e2e/test_launcher.py compares the lists).
system_packages="bubblewrap fuse3 libfuse3-dev pkg-config
    gcc libc6-dev make dash coreutils diffutils findutils grep mawk sed"

set_up() (
    home=$(cd "$1" && pwd -P)
    cd "$home"
    ready=.venv/ready
    [ "$2" = run ] || ready=.venv/ready-dev
    ! is_current || exit 0

    { : >>.venv.lock; } 2>/dev/null || give_up "cannot write to $home, where .venv belongs"
    exec 9>>.venv.lock
    if ! flock -n 9; then
        say "another start is setting up; waiting for it"
        flock 9
    fi
    sum=$(cat pyproject.toml constraints.txt .ci/clients/package-lock.json | cksum)
    ! is_current || exit 0
    if is_touched_only; then
        touch "$ready"
        exit 0
    fi

    say "setting up $home/.venv (first use, or what it is made from has changed)"
    # Where check has been used, a set-up by bn keeps the tools of check up to date as well.
    extras=
    if [ "$2" = dev ] || [ -e .venv/ready-dev ]; then extras=dev; fi
    install_system_packages
    make_venv
    install_python_packages
    if [ -n "$extras" ]; then
        . .ci/clients.sh
        install_clients
    fi
    finish
    say "ready"
)

say() { printf 'bn: %s\n' "$*" >&2; }

give_up() { # MESSAGE [LOG]
    say "$1"
    [ $# -lt 2 ] || tail -n 15 "$2" >&2
    exit 4 # the host is at fault, as in bn's own exit codes
}

is_made_here() { # STAMP
    [ -x .venv/bin/python ] && [ -e "$1" ] && [ "$(head -n 1 "$1")" = "$home" ]
}

is_current() {
    is_made_here "$ready" && [ ! pyproject.toml -nt "$ready" ] &&
        [ ! constraints.txt -nt "$ready" ] && [ ! .ci/clients/package-lock.json -nt "$ready" ]
}

is_touched_only() {
    is_made_here "$ready" && [ "$(tail -n 1 "$ready")" = "$sum" ]
}

# -- system packages

install_system_packages() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        command -v bwrap >/dev/null || say "no apt here: please install bubblewrap by other means"
        return 0
    fi
    wanted=$system_packages
    case $(find_python) in
        /usr/bin/*) wanted="$wanted python3-dev" ;;
        '') wanted="$wanted python3-dev python3-venv" ;;
    esac
    install_packages "going on without" $(for package in $wanted; do
        case $(dpkg-query -W -f '/${db:Status-Status}/' "$package" 2>/dev/null) in
            */installed/*) ;;
            *) printf '%s\n' "$package" ;;
        esac
    done)
}

install_packages() { # WITHOUT [PACKAGE...]
    without=$1
    shift
    [ $# -gt 0 ] && command -v apt-get >/dev/null || return 0

    by_hand="apt-get update && apt-get install -y $*"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        say "system packages are missing and this user may not install them; the command is:"
        say "    sudo sh -c '$by_hand'"
        return 0
    fi
    say "installing system packages: $*"
    apt_log=$(mktemp)
    apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
    # A source of the user's that fails to update need not keep these from being installed.
    $apt update >"$apt_log" 2>&1 </dev/null || true
    if ! $apt install --no-install-recommends "$@" >>"$apt_log" 2>&1 </dev/null; then
        tail -n 8 "$apt_log" >&2
        say "that failed; $without. By hand: $by_hand"
    fi
    rm -f "$apt_log"
}

# -- Python

# The system's own comes first: apt can complete it (venv, headers), and Debian's starts fastest.
find_python() {
    for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        python=$(command -v "$python") || continue
        if "$python" -I -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            printf '%s\n' "$python"
            break
        fi
    done
}

# A .venv that was once complete is updated in place; any other is made anew.
make_venv() {
    log=.venv/setup.log
    if is_made_here .venv/ready && .venv/bin/python -I -m pip --version >/dev/null 2>&1; then
        rm -f .venv/ready .venv/ready-dev
        : >"$log"
        return 0
    fi
    python=$(find_python)
    [ -n "$python" ] || give_up "no python3 of at least 3.11 that can make a venv is to be found"
    rm -rf .venv
    mkdir .venv
    "$python" -I -m venv .venv >"$log" 2>&1 || give_up "making .venv failed:" "$log"
}

install_python_packages() {
    # Its time becomes the stamp's, so that a change made during the set-up is not missed.
    printf '%s\n%s\n' "$home" "$sum" >.venv/begun
    with_fuse="fuse${extras:+,$extras}"
    if ! can_build_pyfuse3; then
        say "going on without FUSE: pyfuse3 needs gcc, pkg-config, libfuse3-dev and Python's headers"
        pip_install "$extras" || give_up "pip failed; is the network there? The end of .venv/setup.log:" "$log"
    elif ! pip_install "$with_fuse"; then
        pip_install "$extras" || give_up "pip failed; is the network there? The end of .venv/setup.log:" "$log"
        say "going on without FUSE: pyfuse3 could not be built (see .venv/setup.log)"
    fi
}

finish() {
    [ -z "$extras" ] || cp -p .venv/begun .venv/ready-dev
    mv .venv/begun .venv/ready
}

can_build_pyfuse3() {
    command -v gcc >/dev/null && pkg-config --exists fuse3 2>/dev/null &&
        .venv/bin/python -I -c 'import os, sysconfig as s
os.stat(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null
}

# The constraints reach the build environments as well, through the variables (pip's older and newer);
# their path is relative because pip splits the value at spaces.
pip_install() ( # EXTRAS
    unset PYTHONPATH PYTHONHOME PIP_PREFIX PIP_TARGET PIP_USER
    export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    .venv/bin/python -I -m pip install --editable ".${1:+[$1]}" >>"$log" 2>&1 </dev/null
)
