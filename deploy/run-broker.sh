#!/bin/bash
# A RabbitMQ on this machine without a container engine: see --help.
set -euo pipefail

server=/usr/lib/rabbitmq/bin/rabbitmq-server
port=5672
management_port=15672
data=

usage() {
    cat <<'USAGE'
Starts a private RabbitMQ node with its management page, in the foreground; Ctrl-C stops it. It needs Debian's
rabbitmq-server package (deploy/setup-rabbitmq.sh), touches no system service and listens on 127.0.0.1 only.

    deploy/run-broker.sh [--port 5672] [--management-port 15672] [--data FOLDER]

    --port PORT              AMQP. The ports PORT+20000 and PORT+20001 are used as well, for Erlang's own talk
    --management-port PORT   the management page and API (guest, guest)
    --data FOLDER            keeps queues, messages and the log there; without it they are gone when the node stops
USAGE
}
fail() {
    printf 'run-broker: %s\n' "$@" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --port | --management-port | --data)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case $1 in
        --port) port=$2 ;;
        --management-port) management_port=$2 ;;
        --data) data=$2 ;;
        esac
        shift 2
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done
for number in "$port" "$management_port"; do
    [[ $number =~ ^[1-9][0-9]{0,4}$ ]] || fail "'$number' is not a port"
done
[ "$port" -le 45534 ] || fail "--port must be at most 45534 (PORT+20000 and PORT+20001 are used as well)"

[ -x "$server" ] || fail "there is no $server: run deploy/setup-rabbitmq.sh, or" \
    "docker run -d -p 5672:5672 -p 15672:15672 rabbitmq:4-management"
dist_port=$((port + 20000))
epmd_port=$((port + 20001))
for number in "$port" "$management_port" "$dist_port" "$epmd_port"; do
    if (: <"/dev/tcp/127.0.0.1/$number") 2>/dev/null; then
        fail "port $number on 127.0.0.1 is taken. A system service? 'systemctl stop rabbitmq-server' stops Debian's;" \
            "or take other ports: deploy/run-broker.sh --port 5673 --management-port 15673"
    fi
done

temporary=
if [ -z "$data" ]; then
    temporary=$(mktemp -d -t rabbitry-broker.XXXXXX)
    data=$temporary
fi
mkdir -p "$data/home"
data=$(cd -- "$data" && pwd)
log=$data/rabbitmq.log
: >"$log"
echo '[rabbitmq_management].' >"$data/enabled_plugins"
: >"$data/rabbitmq-env.conf"
cat >"$data/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
CONF

# Nothing of the system's node is shared: not its configuration, cookie, data, or epmd.
export HOME=$data/home
export ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME=rabbitry-$port@localhost RABBITMQ_DIST_PORT=$dist_port
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
export RABBITMQ_CONF_ENV_FILE=$data/rabbitmq-env.conf RABBITMQ_CONFIG_FILE=$data/rabbitmq.conf
export RABBITMQ_ADVANCED_CONFIG_FILE=$data/advanced.config RABBITMQ_ENABLED_PLUGINS_FILE=$data/enabled_plugins
export RABBITMQ_MNESIA_BASE=$data/mnesia RABBITMQ_LOG_BASE=$data RABBITMQ_LOGS=$log

node=
# shellcheck disable=SC2329  # called by the trap below
stop() {
    # The reader of our output may have gone with the same Ctrl-C, so PIPE is among them.
    trap '' INT TERM HUP PIPE
    if [ -n "$node" ] && kill -0 "$node" 2>/dev/null; then
        echo "run-broker: stopping (about 10 s)" 2>/dev/null || true
        kill -TERM "$node"
        for _ in $(seq 150); do
            kill -0 "$node" 2>/dev/null || break
            sleep 0.2
        done
    fi
    # Its own session, so this reaches the node's helpers and nothing else. epmd has left it: it is asked to go.
    [ -z "$node" ] || kill -KILL -- "-$node" 2>/dev/null || true
    epmd -port "$epmd_port" -kill >/dev/null 2>&1 || true
    [ -z "$temporary" ] || rm -rf "$temporary"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP PIPE

echo "run-broker: starting RabbitMQ"
# A session of its own: Ctrl-C goes to this script, which stops the node in order.
setsid "$server" </dev/null >"$data/console.log" 2>&1 &
node=$!
until grep -q 'Server startup complete' "$log"; do
    if ! kill -0 "$node" 2>/dev/null; then
        tail -n 30 "$data/console.log" "$log" >&2
        fail "RabbitMQ did not start; its last words are above"
    fi
    sleep 0.2
done
cat <<READY
run-broker: ready
    broker      amqp://guest:guest@127.0.0.1:$port
    management  http://127.0.0.1:$management_port  (guest, guest)
    data        $data$([ -z "$temporary" ] || echo '  (removed at the end)')
run-broker: Ctrl-C stops it
READY
wait "$node" || true
fail "RabbitMQ has stopped by itself; see $log"
