#!/bin/sh
# Unpacks packages of a Debian suite, with all that they need, into a folder; nothing of the system changes.
# `install_debian_tree.sh forky .debian/forky redis-server`: the probes run programs of that folder with its own libc.
set -eu
suite=$1
folder=$(mkdir -p "$2" && cd "$2" && pwd)
shift 2
state=$folder/.apt
mkdir -p "$state/lists/partial" "$state/archives/partial" "$state/sources.d"
: >"$state/status"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep '/debian$' | head -n 1)
[ -n "$mirror" ] || { echo "no source of Debian packages is known to apt-get" >&2; exit 1; }
echo "deb $mirror $suite main" >"$state/sources.list"
apt() {
    apt-get -qq -o Dir::State::status="$state/status" -o Dir::State::lists="$state/lists" \
        -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives" -o Debug::NoLocking=true \
        -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts="$state/sources.d" \
        -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Acquire::Check-Valid-Until=false "$@"
}
apt update
apt install --yes --download-only "$@"
for package in "$state"/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder"
done
rm -r "$state"
