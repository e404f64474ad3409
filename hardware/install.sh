#!/usr/bin/env bash
# Everything outside Python that runs exported networks: a C compiler, Icarus Verilog, Verilator, yosys, Chromium for the
# report page, and SANA-FE, brian2-loihi and lava-nc in environments of their own below .outside/.
# Installs what is missing where it can (Debian, as root), and says what it cannot.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
missing=()
declare -A package=([cc]=gcc [make]=make [iverilog]=iverilog [verilator]=verilator [g++]=g++ [yosys]=yosys [chromium]=chromium)
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
environment() { # name, packages, packages whose metadata must not be believed
  [ -e ".outside/$1/complete" ] && return
  rm -rf ".outside/$1" && "$python" -m venv ".outside/$1" && ".outside/$1/bin/pip" install --quiet $2 &&
    { [ -z "${3:-}" ] || ".outside/$1/bin/pip" install --quiet --ignore-requires-python --no-deps $3; } &&
    touch ".outside/$1/complete" || echo "not installed: $1; its tests skip" >&2
}
environment sanafe 'sanafe==2.2.9 numpy==2.4.6 pyyaml==6.0.3'
environment brian2-loihi 'brian2-loihi==0.5.2 numpy<2.4'
# says that it needs Python below 3.11
environment lava 'numpy<2 scipy networkx<=2.8.7 asteval<0.10' lava-nc==0.10.0
