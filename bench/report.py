# SPDX-License-Identifier: GPL-2.0-or-later
"""From the rounds of a bench to ratios against targets, a table, plots and RESULTS.md."""
import os
import platform
import statistics
import subprocess
import tempfile

US, MS = "µs", "ms"


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    return {"cpus": len(os.sched_getaffinity(0)), "model": model, "kernel": platform.release()}


def values(results, figure, arm, key):
    return [v for v in results["figures"].get(figure, {}).get(arm, {}).get(key, []) if v is not None]


def paired(results, figure, arm, other, key, combine):
    """Combine two arms round by round: what disturbs a round disturbs both."""
    arms = results["figures"].get(figure, {})
    pairs = zip(arms.get(arm, {}).get(key, []), arms.get(other, {}).get(key, []))
    return [combine(a, b) for a, b in pairs if a is not None and b is not None]


def ratio(a, b):
    return a / b


def difference(a, b):
    return a - b


# (what, target as text, is it met?, unit, the values of the rounds)
def rows(results):
    r = results
    found = []

    def row(what, target, met, unit, series):
        if series:
            found.append({"what": what, "target": target, "unit": unit, "rounds": series,
                          "median": statistics.median(series), "low": min(series),
                          "high": max(series),
                          "met": None if met is None else bool(met(statistics.median(series)))})

    for figure, how in (("udp_in", "arriving, as fast as sent"),
                        ("udp_out", "leaving, as fast as sent"),
                        ("udp_paced", "arriving, 50,000 packets/s")):
        row(f"CPU per packet, 64-byte UDP, 1,000 rules, against the minimal loop; {how}", "≤ 1.15×",
            lambda m: m <= 1.15, "×", paired(r, figure, "agent", "minimal", "ns_per_packet", ratio))
        row(f"packets per CPU-second against the textbook loop; {how}", "≥ 2.5×",
            lambda m: m >= 2.5, "×", paired(r, figure, "textbook", "agent", "ns_per_packet", ratio))
        row(f"the same, minimal loop; {how}", "", None, "×",
            paired(r, figure, "textbook", "minimal", "ns_per_packet", ratio))
        row(f"packets per CPU-second against its two-thread variant; {how}", "", None, "×",
            paired(r, figure, "textbook_threads", "agent", "ns_per_packet", ratio))
        row(f"10,000 rules against 10, CPU per packet; {how}", "≤ 1.3×", lambda m: m <= 1.3, "×",
            paired(r, figure, "agent-10000", "agent-10", "ns_per_packet", ratio))
    row("packets per second, 1,000 rules, two queues against one; all may use all CPUs", "", None, "×",
        paired(r, "udp_fan_out", "two", "agent", "accepted_per_s", ratio))
    row("the same, CPU per packet", "", None, "×",
        paired(r, "udp_fan_out", "two", "agent", "ns_per_packet", ratio))
    for arm, what, target, limit in (
            ("agent", "TCP bulk, every packet judged, against no queue", "≥ 85 %", 85),
            ("offload", "TCP bulk with offload, against no queue", "≥ 98 %", 98),
            ("minimal", "TCP bulk, minimal loop, against no queue", "", None),
            ("tracked", "TCP bulk, connection tracking and no queue, against no rules", "", None),
            ("chains", "TCP bulk, connection tracking and as many base chains, no queue, against no rules",
             "", None)):
        row(what, target, limit and (lambda m, limit=limit: m >= limit), "%",
            paired(r, "tcp_bulk", arm, "none", "gbit_per_s", lambda a, b: 100 * a / b))
    for arm, what, target, limit in (
            ("offload", "new TCP connections with offload, against no queue", "≥ 60 %", 60),
            ("agent", "new TCP connections, every packet judged, against no queue", "", None),
            ("tracked", "new TCP connections, connection tracking and no queue, against no rules", "",
             None),
            ("chains", "new TCP connections, connection tracking and as many base chains, no queue, "
             "against no rules", "", None)):
        row(what, target, limit and (lambda m, limit=limit: m >= limit), "%",
            paired(r, "tcp_connect", arm, "none", "per_s", lambda a, b: 100 * a / b))
    for figure, what, key in (("tcp_bulk", "TCP bulk", "gbit_per_s"),
                              ("tcp_connect", "new TCP connections", "per_s")):
        for arm, text in (("tracked", "connection tracking alone"), ("chains", "as many base chains")):
            row(f"{what} with offload, against {text}", "", None, "%",
                paired(r, figure, "offload", arm, key, lambda a, b: 100 * a / b))
    for rate, text in ((1000, "1k"), (20000, "20k")):
        for key, limit in (("p50", 30), ("p99", 100)):
            figure = f"delay_{rate}"
            row(f"added delay of a round trip at {text}/s, both ways judged, {key}", f"≤ {limit} µs",
                lambda m, limit=limit: m <= limit, US,
                paired(r, figure, "agent", "none", key, difference))
            for arm, text_of_arm in (("none", "no queue"), ("agent", "agent")):
                row(f"a round trip at {text}/s, {text_of_arm}, {key}", "", None, US,
                    values(r, figure, arm, key))
            for arm in ("textbook", "tracked"):
                row(f"the same, {arm}", "", None, US, paired(r, figure, arm, "none", key, difference))
            for place, how in (("apart", "client and server on a CPU each"),
                               ("one_cpu", "all on one CPU")):
                for arm in ("agent", "textbook"):
                    row(f"the same with {how}, {arm}", "", None, US,
                        paired(r, f"delay_{place}_{rate}", arm, "none", key, difference))
    for idle, text in (("100", "0.1 ms"), ("1000", "1 ms")):
        for key in ("p50", "p99"):
            row(f"to wake up a thread on another CPU that has slept for {text}, {key}", "", None, US,
                values(r, "wake", idle, key))
    for figure, how in (("spread_20k", "20,000 packets/s one by one"),
                        ("spread_100k", "100,000 packets/s one by one"),
                        ("spread_burst", "100,000 packets/s in bursts of 16")):
        row(f"1,000 namespaces against 1, CPU per packet; {how}", "≤ 1.2×", lambda m: m <= 1.2, "×",
            paired(r, figure, "all", "1", "ns_per_packet", ratio))
    for figure, how in (("spread_floor_20k", "20,000 packets/s"), ("spread_floor_100k", "100,000 packets/s")):
        row(f"the same one by one, minimal loop; {how}", "", None, "×",
            paired(r, figure, "all", "1", "ns_per_packet", ratio))
    row("agent memory, 1,000 namespaces, a shared policy of 1,000 rules", "≤ 48 MiB",
        lambda m: m <= 48, "MiB", values(r, "memory", "agent", "mib"))
    row("attach at 1,000 attached, p50", "≤ 3 ms", lambda m: m <= 3, MS, values(r, "attach", "agent", "p50_ms"))
    row("attach at 1,000 attached, p99", "≤ 15 ms", lambda m: m <= 15, MS, values(r, "attach", "agent", "p99_ms"))
    for figure, how in (("stats_idle", "idle"), ("stats_20k", "20,000 packets/s"),
                        ("stats_flood", "packets as fast as sent")):
        row(f"statistics of one namespace, median; {how}", "≤ 1 ms", lambda m: m <= 1, MS,
            values(r, figure, "one", "p50"))
        row(f"statistics of all 1,000, median; {how}", "≤ 25 ms", lambda m: m <= 25, MS,
            values(r, figure, "all", "p50"))
    row("round trip p99 at 20,000 packets/s: statistics asked 10 times a second, less not asked",
        "unmoved", None, US, paired(r, "delay_while_asked", "asked", "quiet", "p99", difference))
    row("PUT of a policy of 1,000 rules that 1,000 namespaces share, to in force in all", "", None, MS,
        values(r, "policy_shared", "large", "ms"))
    row("PUT of a policy of 10,000 rules to in force", "≤ 50 ms", lambda m: m <= 50, MS,
        values(r, "policy", "agent", "ms"))
    return found


def number(value):
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def table(found):
    lines = ["| what | target | median | spread | met |", "|---|---|---|---|---|"]
    for row in found:
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        lines.append(f"| {row['what']} | {row['target']} | {number(row['median'])} {row['unit']} | "
                     f"{number(row['low'])} – {number(row['high'])} | {met} |")
    return "\n".join(lines)


def absolute(results):
    lines = ["| figure | arm | median | spread |", "|---|---|---|---|"]
    for figure, arms in results["figures"].items():
        for arm, keys in arms.items():
            for key in keys:
                series = values(results, figure, arm, key)
                if not series:
                    continue
                lines.append(f"| {figure} | {arm} {key} | {number(statistics.median(series))} | "
                             f"{number(min(series))} – {number(max(series))} |")
    return "\n".join(lines)


PLOTS = (
    ("udp_in", "ns_per_packet", "CPU per packet, 64-byte UDP arriving as fast as sent (ns)"),
    ("udp_out", "ns_per_packet", "CPU per packet, 64-byte UDP leaving as fast as sent (ns)"),
    ("udp_paced", "ns_per_packet", "CPU per packet, 50,000 UDP packets per second (ns)"),
    ("tcp_bulk", "gbit_per_s", "TCP bulk (Gbit/s)"),
    ("tcp_connect", "per_s", "new TCP connections per second"),
    ("delay_1000", "p50", "UDP round trip at 1,000 per second, p50 (µs)"),
    ("delay_20000", "p99", "UDP round trip at 20,000 per second, p99 (µs)"),
)


def plots(results, folder):
    os.makedirs(folder, exist_ok=True)
    for figure, key, title in PLOTS:
        arms = results["figures"].get(figure)
        if not arms:
            continue
        with tempfile.NamedTemporaryFile("w", suffix=".dat") as data:
            for arm, keys in arms.items():
                series = values(results, figure, arm, key)
                if not series:
                    continue
                data.write(f'"{arm.replace("_", " ")}" {statistics.median(series)} {min(series)} {max(series)}\n')
            data.flush()
            script = (f'set terminal svg size 720,400 noenhanced\nset output "{folder}/{figure}.svg"\n'
                      f'set title "{title}: median, lowest, highest"\nset style fill solid 0.5\n'
                      'set boxwidth 0.6\nset yrange [0:*]\nunset key\nset grid ytics\n'
                      f'plot "{data.name}" using 0:2:xtic(1) with boxes, '
                      f'"" using 0:2:3:4 with yerrorbars lc rgb "black" pt 0\n')
            try:
                subprocess.run(["gnuplot"], input=script, text=True, check=True, timeout=60)
            except FileNotFoundError:
                print("no gnuplot: no plots")
                return


def write(results, found, folder):
    about = results["machine"]
    with open(os.path.join(folder, "NOTES.md")) as f:
        notes = f.read()
    thrown = {}
    for run in results["thrown_away"]:
        key = (run["figure"], run["arm"])
        thrown[key] = thrown.get(key, 0) + 1
    lost = "\n".join(f"- {figure}, {arm}: {count}" for (figure, arm), count in sorted(thrown.items()))
    pictures = "\n".join(f"![{title}](plots/{figure}.svg)" for figure, _, title in PLOTS
                         if figure in results["figures"])
    with open(os.path.join(folder, "RESULTS.md"), "w") as f:
        f.write(f"""# Results of the bench

Written by `make bench`; the words come from `bench/NOTES.md`. Ratios and differences are made within
a round, arms side by side; then the median of {results['rounds']} rounds, with the lowest and the highest.

Machine: {about['cpus']} CPUs ({about['model']}), Linux {about['kernel']}. Runs of {results['seconds']} s.

{table(found)}

{notes}
## Thrown away

Runs in which packets sent were not all accepted, denied or counted as dropped by the kernel, or
answers were missing: {len(results['thrown_away'])}.
{lost}

## Absolute figures

Of this machine on that day; compare nothing with them.

{absolute(results)}

{pictures}
""")
