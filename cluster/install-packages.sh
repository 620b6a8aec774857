#!/bin/sh
# Install the Debian packages named on the command line that are missing: `install-packages.sh NAME...`
#
# Nothing of the machine changes otherwise: an installation that would remove a package (Docker's containerd.io conflicts
# with Debian's containerd) is refused, and a service that a new package brings is neither started at boot nor left running.
set -eu

missing=""
for name in "$@"; do
  status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null || true)
  case "$status" in ii*) ;; *) missing="$missing $name" ;; esac
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" != 0 ] || apt-get update -q
# shellcheck disable=SC2086  # a list of names
plan=$(LC_ALL=C apt-get install --simulate --no-install-recommends $missing)
removed=$(printf '%s\n' "$plan" | sed -n 's/^Remv \([^ ]*\).*/\1/p' | tr '\n' ' ')
if [ -n "$removed" ]; then
  echo "Refused: installing$missing would remove ${removed% }. Use a machine without these packages, or set KUBECONFIG to" \
    "a cluster of your own, which needs none of them." >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "Debian packages are missing:$missing. Install them as root: apt-get install --no-install-recommends$missing" >&2
  exit 1
fi
new=$(printf '%s\n' "$plan" | sed -n 's/^Inst \([^ ]*\).*/\1/p')
echo "Installing from Debian:" $new

policy=/usr/sbin/policy-rc.d  # Debian's way to install a package without starting its services
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
fi
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
if command -v systemctl >/dev/null; then
  for name in $new; do
    dpkg -L "$name" | sed -n 's:^.*/lib/systemd/system/\([^/@]*\.\(service\|socket\|timer\)\)$:\1:p'
  done | sort -u | while read -r unit; do
    systemctl disable --quiet "$unit" 2>/dev/null || true  # static units cannot be disabled
  done
fi
