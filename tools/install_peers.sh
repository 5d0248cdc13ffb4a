#!/bin/sh
# Other vendors' DICOM tools and what the tests trace with. As root they are installed from the
# system's packages; otherwise the one line to run is printed and the tests that need them are
# skipped (or fail, when CI is set).
set -eu
wanted="dcmtk strace"
missing=""
for package in $wanted; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
  echo "Other vendors' tools are missing. To test with them: sudo apt-get install$missing"
fi
