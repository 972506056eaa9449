#!/bin/bash
# Newer RabbitMQs for the tests, beside the system's own: 4.0 is Debian 13's package, 4.3 that of Debian unstable, each
# with its Erlang in a folder below target/brokers/ that the tests enter by chroot. Nothing of the system changes but the
# package debootstrap, which is installed if it is missing. Safe to run again.
#
#     deploy/setup-test-brokers.sh [4.0] [4.3]      both without arguments; about a minute and 350 MB each
set -euo pipefail

here=$(cd -- "$(dirname -- "$0")/.." && pwd)
brokers=$here/target/brokers

say() { printf 'setup-test-brokers: %s\n' "$*"; }
fail() {
    printf 'setup-test-brokers: %s\n' "$@" >&2
    exit 1
}

suite_of() {
    case $1 in
    4.0) echo trixie ;;
    4.3) echo sid ;;
    *) fail "there is no recipe for RabbitMQ $1; this script knows 4.0 and 4.3" ;;
    esac
}

# The version that is there, as in 4.0.5; empty if there is none.
installed() {
    local found
    found=$(echo "$1"/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/rabbit-[0-9]*)
    found=${found##*/rabbit-}
    found=${found%.ez}
    case $found in [0-9]*) echo "$found" ;; esac
}

# Where this machine's apt has Debian's main archive from: a mirror if it has one.
mirror() {
    apt-get indextargets --format '$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|main|//p' | head -n 1
}

make_broker() {
    local version=$1 suite root log found
    suite=$(suite_of "$version")
    root=$brokers/$version
    found=$(installed "$root")
    if [ -n "$found" ] && [ -e "$root/.complete" ]; then
        say "RabbitMQ $found is there, in ${root#"$here"/}"
        return
    fi
    rm -rf --one-file-system "$root"
    mkdir -p "$brokers"
    log=$brokers/$version.log
    say "making ${root#"$here"/} from Debian $suite; about a minute"
    debootstrap --variant=minbase "$suite" "$root" "$archive" >"$log" 2>&1 ||
        fail "debootstrap failed: see $log and $root/debootstrap/debootstrap.log"
    # Nothing in there may start a service, nor keep what was downloaded or what nobody reads in there.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    cp /etc/hosts "$root/etc/hosts"
    printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$root/etc/dpkg/dpkg.cfg.d/small"
    # An archive that is mirrored as of a date has outlived what it says of itself.
    unshare --mount sh -c '
        mount --rbind /proc "$1/proc" && exec chroot "$1" sh -c "
            export DEBIAN_FRONTEND=noninteractive
            apt-get -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false update -qq &&
            apt-get install -qq -y --no-install-recommends rabbitmq-server"' sh "$root" >>"$log" 2>&1 ||
        fail "apt-get in $root could not install rabbitmq-server: see $log"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/*
    found=$(installed "$root")
    case $found in
    "$version".*) touch "$root/.complete" ;;
    *) fail "Debian $suite has RabbitMQ ${found:-of no version that could be read}, not $version: this recipe is out of date" ;;
    esac
    say "RabbitMQ $found is in ${root#"$here"/}, $(du -sm "$root" | cut -f1) MB"
}

[ $# -gt 0 ] || set -- 4.0 4.3
for version in "$@"; do suite_of "$version" >/dev/null; done
missing=
for version in "$@"; do
    { [ -e "$brokers/$version/.complete" ] && [ -n "$(installed "$brokers/$version")" ]; } || missing=1
done
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || fail "this takes Debian or Ubuntu: there is no apt-get here." \
        "Start any RabbitMQ in a container and name it: RABBITRY_TEST_AMQP=amqp://... make test"
    [ "$(id -u)" -eq 0 ] || fail "making a chroot takes root: sudo $0 $*"
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends debootstrap; } >/dev/null ||
            fail "apt-get could not install debootstrap; its reason is above"
    fi
    archive=$(mirror)
    [ -n "$archive" ] || fail "apt knows no archive of Debian: is there a line for 'main' in its sources?"
fi
for version in "$@"; do make_broker "$version"; done
