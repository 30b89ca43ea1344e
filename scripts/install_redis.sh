#!/bin/sh
# Installs the Redis server that the tests start for themselves.
set -eu
if command -v redis-server >/dev/null; then
    exit 0
fi
if command -v brew >/dev/null; then
    brew install redis
    exit 0
fi
if [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq redis-server
else
    sudo apt-get update -qq && sudo apt-get install -y -qq redis-server
fi
