#!/bin/sh
# Measures every kind of broker against a bare client: starts private servers on loopback with their data in a folder of its own, runs
# `outboxd bench brokers`, and stops what it started. Arguments go to the bench, for example `--rounds 5 --events 400000`.
set -eu
cd "$(dirname "$0")/.."

outboxd=${OUTBOXD:-target/release/outboxd}
tools="${OUTBOXD_TOOLS:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/outboxd/tools}"
place=$(mktemp -d)
pids=
PATH=$PATH:/usr/sbin:/sbin

stop() {
    for pid in $pids; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    # RabbitMQ leaves its port mapper behind.
    if [ -n "${epmd_port:-}" ]; then epmd -port "$epmd_port" -kill >/dev/null 2>&1 || true; fi
    rm -rf "$place"
}
trap stop EXIT
trap 'exit 130' INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

begin() { # name, port, command...
    name=$1 port=$2
    shift 2
    mkdir -p "$place/$name"
    (cd "$place/$name" && exec "$@" >server.log 2>&1) &
    pids="$pids $!"
    tries=0
    until python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 1200 ] || ! kill -0 $! 2>/dev/null; then echo "$name did not start:"; tail -5 "$place/$name/server.log"; exit 1; fi >&2
        sleep 0.1
    done
}

nats=$(free_port)
begin nats "$nats" nats-server --addr 127.0.0.1 --port "$nats" --jetstream --store_dir "$place/nats"
redis=$(free_port)
begin redis "$redis" redis-server --bind 127.0.0.1 --port "$redis" --dir "$place/redis" --save '' --appendonly yes --appendfsync everysec \
    --auto-aof-rewrite-percentage 0
mqtt=$(free_port)
mkdir -p "$place/mqtt"
printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nuser %s\n' "$mqtt" "$(id -un)" >"$place/mqtt/m.conf"
begin mqtt "$mqtt" mosquitto -c "$place/mqtt/m.conf"
kafka=$(free_port)
begin kafka "$kafka" "$tools/bin/tansu" broker --listener-url "tcp://127.0.0.1:$kafka" --advertised-listener-url "tcp://127.0.0.1:$kafka" \
    --storage-engine "memory://tansu/"
rabbitmq=$(free_port)
epmd_port=$(free_port)
mkdir -p "$place/rabbitmq"
printf 'listeners.tcp.default = 127.0.0.1:%s\nlog.console = true\nlog.file = false\ndisk_free_limit.absolute = 50MB\n' "$rabbitmq" >"$place/rabbitmq/rabbitmq.conf"
echo '[].' >"$place/rabbitmq/enabled_plugins"
begin rabbitmq "$rabbitmq" env HOME="$place/rabbitmq" RABBITMQ_NODENAME="bench$rabbitmq@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
    RABBITMQ_NODE_PORT="$rabbitmq" RABBITMQ_DIST_PORT="$(free_port)" ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$place/rabbitmq/rabbitmq.conf" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$place/rabbitmq/enabled_plugins" RABBITMQ_MNESIA_BASE="$place/rabbitmq/mnesia" \
    RABBITMQ_LOG_BASE="$place/rabbitmq/log" RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none" \
    /usr/lib/rabbitmq/bin/rabbitmq-server

"$outboxd" bench brokers "$@" --rabbitmq "amqp://guest:guest@127.0.0.1:$rabbitmq" --nats "nats://127.0.0.1:$nats" \
    --kafka "127.0.0.1:$kafka" --redis "redis://127.0.0.1:$redis" --mqtt "mqtt://127.0.0.1:$mqtt"
