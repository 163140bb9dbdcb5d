#!/bin/sh
# Installs Debian packages without starting their services: ours run as child processes, with
# ports and folders of their own, and a package's service would hold the usual ports.
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
if [ -d /run/systemd/system ]; then
    for unit in rabbitmq-server prometheus prometheus-alertmanager epmd.socket epmd; do
        systemctl is-active --quiet "$unit" || systemctl disable --quiet "$unit" 2>/dev/null || true
    done
fi
