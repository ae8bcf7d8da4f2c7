#!/bin/sh
# Compiles src/ to dist/ where something is newer than the last build.
set -eu
cd "$(dirname "$0")/.."
stamp=dist/.built
if [ -f "$stamp" ] && [ -z "$(find src tsconfig.json tsconfig.build.json package-lock.json -newer "$stamp" -print -quit)" ]; then exit 0; fi
echo "building" >&2
# Whatever is edited during the build is newer than the stamp.
mkdir -p dist
touch dist/.building
./node_modules/.bin/tsc -p tsconfig.build.json
mv dist/.building "$stamp"
