#!/usr/bin/env python3
"""Writes latchkey.json, the dashboard: `ops/grafana/dashboard.py > ops/grafana/latchkey.json`.

A panel is a line below; its place and its id follow from the order. Counters are summed over instances after `rate` and `increase`;
what is read from the database is the same on every instance, so max() takes it once.
"""

import json

SELECT = 'job="latchkey",instance=~"$instance"'
PAGES = SELECT + ',route!~"/healthz|/readyz|/metrics"'


def rate(metric, by="", where=SELECT):
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval]))"


def increase(metric, where=""):
    return f"sum(increase({metric}{{{SELECT}{where}}}[$__range]))"


def highest(metric, by="", where=""):
    return f"max{f' by ({by})' if by else ''} ({metric}{{{SELECT}{where}}})"


def quantile(q, metric, by="", where=SELECT):
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', f'{by}, le' if by else 'le', where)})"


def share(metric, of, where=SELECT):
    """Nothing where there is nothing to have a share of, which is not the same as none."""
    return f"({rate(metric, where=f'{where},{of}')} or vector(0)) / ({rate(metric, where=where)} > 0)"


def stat(title, expr, unit="short", red=None, says=""):
    """One number; from `red` on it is red."""
    steps = [{"color": "green", "value": None}] + ([{"color": "red", "value": red}] if red is not None else [])
    return {
        "type": "stat",
        "title": title,
        "description": says,
        "width": 4,
        "height": 4,
        "instant": True,
        "targets": [(expr, "")],
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
        },
    }


def graph(title, *targets, unit="short", limit=None, stack=False, width=8, says=""):
    """Lines over time; `limit` is what the alert goes by."""
    steps = [{"color": "transparent", "value": None}] + ([{"color": "red", "value": limit}] if limit is not None else [])
    custom = {"fillOpacity": 30 if stack else 8, "showPoints": "never", "spanNulls": True}
    custom["stacking"] = {"mode": "normal" if stack else "none", "group": "A"}
    custom["thresholdsStyle"] = {"mode": "line" if limit is not None else "off"}
    return {
        "type": "timeseries",
        "title": title,
        "description": says,
        "width": width,
        "height": 8,
        "targets": list(targets),
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": custom, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def bars(title, *targets, width=12, says=""):
    """How many over the whole time shown, one bar below the other."""
    return {
        "type": "bargauge",
        "title": title,
        "description": says,
        "width": width,
        "height": 8,
        "instant": True,
        "targets": list(targets),
        "fieldConfig": {"defaults": {"unit": "short", "min": 0, "decimals": 0, "color": {"mode": "continuous-BlPu"}}, "overrides": []},
        "options": {
            "orientation": "horizontal",
            "displayMode": "basic",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }


STATES = {0: "none", 1: "running", 2: "held", 3: "paused", 4: "finished", 5: "aborted", 6: "turned off by a check"}


def states(panel):
    panel["fieldConfig"]["defaults"]["mappings"] = [
        {"type": "value", "options": {str(state): {"text": text, "index": state} for state, text in STATES.items()}}
    ]
    return panel


ROWS = {
    "Now": [
        stat("Instances", f"sum(up{{{SELECT}}})"),
        stat("Signed in, this time range", increase("auth_magiclink_verifications_total", ',result="success"')),
        stat(
            "Refused in the last hour",
            f'sum(increase(auth_magiclink_verifications_total{{{SELECT},result!="success"}}[1h]))'
            f" / (sum(increase(auth_magiclink_verifications_total{{{SELECT}}}[1h])) > 0)",
            "percentunit",
            0.05,
            "Links and codes that signed nobody in. The alert needs at least 20.",
        ),
        stat("Busiest network, mails an hour", highest("auth_magiclink_requests_max_per_ip"), red=101),
        stat("Worst account, wrong second factors an hour", highest("auth_failed_attempts", where=',scope="totp_account"'), red=11),
        stat("Oldest mail that is due", highest("mail_outbox_oldest_seconds"), "s", 120),
    ],
    "Signing in": [
        bars(
            "From asking to a session",
            (increase("auth_magiclink_requests_total"), "1 asked for a mail"),
            (increase("auth_magiclink_requests_total", ',status="accepted"'), "2 mail queued"),
            (increase("mail_deliveries_total", ',result="sent"'), "3 mails sent, of all kinds"),
            (increase("auth_magiclink_verifications_total"), "4 brought a link or code"),
            (increase("auth_magiclink_verifications_total", ',result="success"'), "5 it was right"),
            (increase("auth_sessions_created_total", ',level=~"email|two_factor"'), "6 signed in"),
        ),
        bars(
            "Links and codes by result",
            (
                f"sort_desc(sum by (result, method) (increase(auth_magiclink_verifications_total{{{SELECT}}}[$__range])))",
                "{{method}}: {{result}}",
            ),
        ),
        graph(
            "Mails asked for",
            (rate("auth_magiclink_requests_total", "status"), "{{status}}"),
            unit="cps",
            stack=True,
        ),
        graph("Mails asked for by domain", (rate("auth_magiclink_requests_total", "email_domain"), "{{email_domain}}"), unit="cps"),
        graph("Links and codes", (rate("auth_magiclink_verifications_total", "result"), "{{result}}"), unit="cps", stack=True),
    ],
    "Second factor": [
        graph("App codes", (rate("auth_totp_verify_total", "result"), "{{result}}"), unit="cps", stack=True),
        graph("Backup codes", (rate("auth_backup_code_verify_total", "result"), "{{result}}"), unit="cps", stack=True),
        graph(
            "Failures of the worst one, last hour",
            (highest("auth_failed_attempts", "scope"), "{{scope}}"),
            says="/admin/limits and the audit log name the subject, metrics never do.",
        ),
    ],
    "Limits": [
        graph(
            "Refused by limits",
            (rate("rate_limited_total", "limit") + " > 0 or " + rate("rate_limited_total"), "{{limit}}"),
            unit="cps",
            limit=1,
            width=12,
            says="The line without a name is their sum.",
        ),
        graph(
            "Busiest network, mails in an hour",
            (highest("auth_magiclink_requests_max_per_ip"), "mails"),
            limit=100,
            width=12,
        ),
    ],
    "Mail": [
        graph("In the outbox", (highest("mail_outbox_messages", "state"), "{{state}}")),
        graph("Oldest that is due", (highest("mail_outbox_oldest_seconds"), "age"), unit="s", limit=120),
        graph("Taken and given up", (rate("mail_deliveries_total", "result"), "{{result}}"), unit="cps", stack=True),
        graph(
            "From asked for to sent",
            (quantile(0.5, "mail_delivery_seconds"), "half"),
            (quantile(0.95, "mail_delivery_seconds"), "95 %"),
            unit="s",
            limit=60,
            width=24,
        ),
    ],
    "Sessions": [
        graph("Begun", (rate("auth_sessions_created_total", "level"), "{{level}}"), unit="cps", stack=True, width=12),
        graph("Ended", (rate("auth_sessions_revoked_total", "reason"), "{{reason}}"), unit="cps", stack=True, width=12),
    ],
    "Requests": [
        graph("By status", (rate("http_requests_total", "status", PAGES), "{{status}}"), unit="reqps", stack=True),
        graph(
            "Server errors",
            (share("http_requests_total", 'status=~"5.."', PAGES), "of all answers"),
            unit="percentunit",
            limit=0.01,
        ),
        graph(
            "Time to an answer",
            (quantile(0.5, "http_request_duration_seconds", where=PAGES), "half"),
            (quantile(0.95, "http_request_duration_seconds", where=PAGES), "95 %"),
            (quantile(0.99, "http_request_duration_seconds", where=PAGES), "99 %"),
            unit="s",
        ),
        graph(
            "Time to an answer by route, 95 %",
            (f"topk(10, {quantile(0.95, 'http_request_duration_seconds', 'route', PAGES)} > 0)", "{{route}}"),
            unit="s",
            limit=1,
            width=12,
        ),
        graph(
            "Requests by route",
            (f"topk(10, {rate('http_requests_total', 'route', PAGES)} > 0)", "{{route}}"),
            unit="reqps",
            width=12,
        ),
    ],
    "Rollout": [
        graph("Let in, of everyone", (highest("rollout_percent", "flag"), "{{flag}}"), unit="percent", width=12),
        states(graph("State", (highest("rollout_state", "flag"), "{{flag}}"), width=12)),
    ],
    "Keys and audit": [
        graph("Two-factor secrets by their key", (highest("encryption_key_secrets", "state"), "{{state}}"), width=6),
        graph("Last sealed batch", (highest("audit_seal_head"), "number"), width=6, says="It only grows."),
        graph("Oldest row not yet sealed", (highest("audit_unsealed_seconds"), "age"), unit="s", limit=900, width=6),
        graph("The audit matches its seals", (f"min(audit_verify_ok{{{SELECT}}})", "1: yes"), width=6),
    ],
    "Processes": [
        graph("Processor", (f"rate(process_cpu_seconds_total{{{SELECT}}}[$__rate_interval])", "{{instance}}"), unit="percentunit"),
        graph("Memory", (f"process_resident_memory_bytes{{{SELECT}}}", "{{instance}}"), unit="bytes"),
        graph("Up for", (f"time() - process_start_time_seconds{{{SELECT}}}", "{{instance}}"), unit="s"),
        graph("Database connections", (f"database_connections{{{SELECT}}}", "{{instance}} {{state}}"), limit=14),
        graph(
            "File descriptors",
            (f"process_open_fds{{{SELECT}}} / process_max_fds{{{SELECT}}}", "{{instance}}"),
            unit="percentunit",
            limit=0.8,
        ),
        graph(
            "Since a background loop last turned",
            (f"max by (worker) (time() - worker_heartbeat_timestamp_seconds{{{SELECT}}})", "{{worker}}"),
            unit="s",
            limit=900,
        ),
        graph("Log lines dropped", (rate("log_lines_dropped_total", "instance"), "{{instance}}"), unit="cps", width=12),
        graph("Versions", (f"count by (version) (latchkey_build_info{{{SELECT}}})", "{{version}}"), width=12),
    ],
}

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def target(n, expr, legend, instant):
    wanted = {"instant": True, "range": False} if instant else {"range": True}
    return {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto", **wanted}


def laid_out():
    """From left to right, on a grid 24 wide."""
    panels, y = [], 0
    for title, members in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        x, y, tallest = 0, y + 1, 0
        for panel in members:
            width, height, instant = panel.pop("width"), panel.pop("height"), panel.pop("instant", False)
            if x + width > 24:
                x, y, tallest = 0, y + tallest, 0
            panel["datasource"] = SOURCE
            panel["gridPos"] = {"h": height, "w": width, "x": x, "y": y}
            panel["targets"] = [target(n, expr, legend, instant) for n, (expr, legend) in enumerate(panel["targets"])]
            panels.append(panel)
            x, tallest = x + width, max(tallest, height)
        y += tallest
    return [{"id": id, **panel} for id, panel in enumerate(panels, 1)]


DASHBOARD = {
    "uid": "latchkey",
    "title": "Latchkey",
    "tags": ["latchkey"],
    "schemaVersion": 38,
    "editable": True,
    "graphTooltip": 1,
    "refresh": "30s",
    "time": {"from": "now-6h", "to": "now"},
    "timezone": "browser",
    "annotations": {
        "list": [
            {
                "name": "Starts",
                "datasource": SOURCE,
                "enable": True,
                "iconColor": "blue",
                "expr": f"changes(process_start_time_seconds{{{SELECT}}}[2m]) > 0",
                "titleFormat": "{{instance}} started",
            }
        ]
    },
    "templating": {
        "list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
            {
                "name": "instance",
                "label": "Instance",
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": 'label_values(up{job="latchkey"}, instance)', "refId": "instances"},
                "definition": 'label_values(up{job="latchkey"}, instance)',
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
            },
        ]
    },
    "panels": laid_out(),
}

print(json.dumps(DASHBOARD, indent=1, ensure_ascii=False))
