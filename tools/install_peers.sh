#!/bin/sh
# Other vendors' DICOM tools and servers, and what the tests trace with. As root they are installed
# from the system's packages; otherwise the one line to run is printed and the tests that need them
# are skipped (or fail, when CI is set).
set -eu
wanted="dcmtk orthanc strace"
missing=""
for package in $wanted; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
# Node.js reads what we write without us; it need not come from the system's packages.
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  # A package of a server starts it; the tests start their own, at ports of their own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
  case $missing in *orthanc*) systemctl --quiet disable orthanc 2>/dev/null || true ;; esac
else
  echo "Other vendors' tools are missing. To test with them: sudo apt-get install$missing"
fi
