#!/bin/sh
# Installs the browser in which the dashboard of the emulator is tested; its tests are skipped without it.
set -eu
if command -v chromium >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "no apt-get: install chromium by hand" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
else
    sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
fi
