#!/usr/bin/env python3
"""What promtool can't see by itself: that every alert is tested both ways, and that the dashboard is whole."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OPS = Path(__file__).resolve().parents[2] / "ops"
# What Grafana puts in their place.
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$instance": ".*"}
wrong = []


def alerts_are_tested():
    alerts = re.findall(r"^ +- alert: (\w+)$", (OPS / "prometheus/latchkey.rules.yml").read_text(), re.M)
    if not alerts:
        wrong.append("the rules hold no alert")
    tests = re.split(r"^  - name: ", (OPS / "prometheus/latchkey.rules.test.yml").read_text(), flags=re.M)[1:]
    for alert in alerts:
        # What each look at the alerts that fire is to find.
        looks = [
            look for test in tests if test.startswith(f'"{alert}:') for look in test.split("alert_rule_test:")[0].split("eval_time:")[1:]
        ]
        fires = [f'alertname="{alert}"' in look for look in looks]
        if True not in fires:
            wrong.append(f"{alert}: no test sees it fire")
        if False not in fires:
            wrong.append(f"{alert}: no test sees it not fire")


def dashboard_is_whole():
    panels = json.loads((OPS / "grafana/latchkey.json").read_text())["panels"]
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        wrong.append("two panels have one id")
    taken = {}
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if x >= 24 or taken.setdefault((x, y), panel["id"]) != panel["id"]:
                    wrong.append(f"{panel['title']}: lies outside, or over another")
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    if not expressions:
        wrong.append("the dashboard asks for nothing")
    rules = []
    for n, expression in enumerate(expressions):
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        if "$" in expression:
            wrong.append(f"{expression}: a variable that nobody fills in")
        rules.append({"record": f"expression_{n}", "expr": expression})
    # JSON is YAML, and promtool says which rule it can't read.
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        checked = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True)
    if checked.returncode:
        wrong.append(checked.stderr.strip())


alerts_are_tested()
dashboard_is_whole()
sys.exit("\n".join(wrong) or None)
