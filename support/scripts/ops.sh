#!/usr/bin/env bash
# Checks what ops/ holds for Prometheus and Grafana: that the rules say what they should, and that the dashboard can be loaded.
set -euo pipefail
cd "$(dirname "$0")/../.."

promtool check rules ops/prometheus/latchkey.rules.yml
promtool check config --syntax-only ops/prometheus/prometheus.yml
promtool test rules ops/prometheus/latchkey.rules.test.yml
ops/grafana/dashboard.py | diff - ops/grafana/latchkey.json ||
    { echo "ops/grafana/dashboard.py > ops/grafana/latchkey.json, and commit both." >&2; exit 1; }
support/scripts/ops.py

# The unit: nothing in it that systemd doesn't know, and its exposure, as docs/deployment.md states it. Where there is no systemd there is
# nobody to ask. The binary it names needn't be installed here.
if command -v systemd-analyze >/dev/null; then
    unit=$(mktemp -d)
    sed 's#^ExecStart=.*#ExecStart=/bin/true#' ops/systemd/latchkey.service >"$unit/latchkey.service"
    said=$(systemd-analyze verify --man=no "$unit/latchkey.service" 2>&1) || true
    rm -r "$unit"
    [[ -z $said ]] || { echo "$said" >&2; exit 1; }
    systemd-analyze security --offline=true --threshold=15 --no-pager ops/systemd/latchkey.service | tail -1
fi
