#!/bin/sh
# Sees to it that the tests have a RabbitMQ: they start a private node of Debian's package (see run-broker.sh), or use
# the broker that RABBITRY_TEST_AMQP names. Safe to run again.
set -eu

server=/usr/lib/rabbitmq/bin/rabbitmq-server

say() { printf 'setup-rabbitmq: %s\n' "$*"; }
fail() {
    printf 'setup-rabbitmq: %s\n' "$@" >&2
    exit 1
}

if [ -n "${RABBITRY_TEST_AMQP:-}" ]; then
    say "RABBITRY_TEST_AMQP is set: the tests use that broker, nothing to install"
    exit 0
fi
if [ -x "$server" ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    fail "there is no $server, and no apt-get to install it with." \
        "Start any RabbitMQ (docker run -d -p 5672:5672 rabbitmq:4-management) and name it:" \
        "RABBITRY_TEST_AMQP=amqp://guest:guest@127.0.0.1:5672 make test"
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root() { "$@"; }
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root() { sudo -n "$@"; }
else
    fail "there is no $server, and installing it takes root. Run this once:" \
        "sudo apt-get update && sudo apt-get install --no-install-recommends rabbitmq-server"
fi

# In a container or chroot nothing would look after the system's own node, so the package must not start one. (With
# systemd Debian's way is followed: the package starts its service.)
policy=/usr/sbin/policy-rc.d
if [ ! -d /run/systemd/system ] && [ ! -e "$policy" ]; then
    trap 'as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
fi

say "installing rabbitmq-server from the system's packages"
as_root apt-get update -qq || fail "apt-get update failed; its reason is above"
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends rabbitmq-server ||
    fail "apt-get could not install rabbitmq-server; its reason is above"
[ -x "$server" ] || fail "rabbitmq-server is installed, but there is no $server"

if [ -d /run/systemd/system ] && systemctl is-active --quiet rabbitmq-server; then
    say "the package has started a system service on port 5672. The tests do not use it (they start their own node on"
    say "free ports); to stop it: systemctl disable --now rabbitmq-server"
fi
