#!/usr/bin/env bash
# Installs what the chips in spiking_lfp/deploy/chips need to run exported networks: programs, and simulators in Python
# environments of their own in .outside/; packages that read NIR, likewise; and Chromium for the tests of the report.
# Installs missing programs on Debian as root, elsewhere it prints their packages.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
needed=$("$python" -m spiking_lfp.deploy.chips) || exit 1
missing=()
declare -A package=([chromium]=chromium)
while IFS='|' read -r kind name packages _; do
  [ "$kind" = program ] && package[$name]=$packages
done <<<"$needed"
for tool in "${!package[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
if [ ${#missing[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
      echo "not installed: ${missing[*]}; tests that need them skip" >&2
  else
    echo "missing: ${missing[*]}; install them (Debian: apt-get install ${missing[*]}), or tests that need them skip" >&2
  fi
fi
environment() { # name, packages, packages installed with --no-deps
  [ -e ".outside/$1/complete" ] && return
  rm -rf ".outside/$1" && "$python" -m venv ".outside/$1" && ".outside/$1/bin/pip" install --quiet $2 &&
    { [ -z "${3:-}" ] || ".outside/$1/bin/pip" install --quiet --ignore-requires-python --no-deps $3; } &&
    touch ".outside/$1/complete" || echo "not installed: $1; its tests skip" >&2
}
while IFS='|' read -r kind name packages no_deps; do
  [ "$kind" = environment ] && environment "$name" "$packages" "$no_deps" </dev/null
done <<<"$needed"
exit 0
