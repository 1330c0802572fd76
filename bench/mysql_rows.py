"""The rows of the benchmark for MySQL: sysbench's oltp_point_select on MariaDB, directly and through shardway, and on Postgres beside it.

One shardway serves both, so that what a statement of MySQL costs stands beside what one of Postgres does, in one run, asked by
one program. Rows lie where the map says: two shards have a half each by hash, a third server has all of them.
"""

import atexit
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROWS = 100_000
# As sysbench makes them, less what only its writes need.
TABLE = "CREATE TABLE sbtest1 (id integer PRIMARY KEY, k integer NOT NULL, c char(120) NOT NULL, pad char(60) NOT NULL);"
COLUMNS = "{id}, {id} % 1000, concat(lpad({id}, 11, '0'), '-', repeat('c', 107)), repeat('p', 59)"
ENGINES = ("postgres", "mariadb")
PROTOCOLS = {"text": "disable", "prepared": "auto"}
# What a statement may cost over the same one of Postgres.
MOST = 1.3


def missing():
    """What is not installed that this needs, or nothing."""
    programs = {"sysbench": "sysbench", "mariadb": "mariadb-server", "mariadb-install-db": "mariadb-server"}
    return " ".join(sorted({package for program, package in programs.items() if not shutil.which(program)}))


def run(bench, options, work):
    """Measures, prints, and returns the lines for JSON. `bench`: the program that this belongs to."""
    if packages := missing():
        sys.exit(f"missing; on Debian or Ubuntu: apt-get install {packages}")
    share_alike(bench)
    half = start_postgres(bench, work)
    (one_pg, *two_pg), (one_my, *two_my) = half["ports"], start_mariadb(bench, half["first"])
    server, ports = start_shardway(bench, work, (one_pg, two_pg), (one_my, two_my))
    direct = {"postgres": one_pg, "mariadb": one_my}
    targets = {}
    for engine in ENGINES:
        if options.takes("direct"):
            targets[engine, "direct"] = (direct[engine], "bench", None)
        if options.takes("shardway"):
            for name, title in (("one", "shardway, one shard"), ("two", "shardway, two shards")):
                targets[engine, title] = (ports[engine], f"{name}_{engine}", server)
    for (engine, _), (port, database, _) in targets.items():
        until_answers(engine, port, database, server)
    cases = [(protocol, clients) for protocol in PROTOCOLS for clients in bench.CLIENTS
             if options.wants("point_select", protocol, clients)]
    results, names = {}, list(targets)
    for turn in range(options.rounds):
        for case in cases:
            # Nobody is always the first.
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                results.setdefault((case, name), []).append(run_once(options, name[0], targets[name], case))
        bench.say(f"round {turn + 1} of {options.rounds} of sysbench")
    return report(options, cases, names, results)


# ── servers and rows ──


def share_alike(bench):
    """Has the system give its processors to threads, not to sessions, until this program ends.

    Each server process of Postgres is a session of its own, all threads of MariaDB are one. With Linux's autogroups, which give
    every session the same share, a proxy beside MariaDB runs sooner, finds less to do at a time, and sleeps and is woken more often: its cost would tell
    of the scheduler.
    """
    setting = Path("/proc/sys/kernel/sched_autogroup_enabled")
    try:
        before = setting.read_text()
        if before.strip() != "0":
            setting.write_text("0")
            atexit.register(setting.write_text, before)
    except FileNotFoundError:
        return  # built without
    except PermissionError:
        bench.say("the ratios of MariaDB to Postgres are skewed by Linux's autogroups (sysctl kernel.sched_autogroup_enabled=0)")


def start_postgres(bench, work):
    """One server with all rows and two with a half each; and the keys of the first half."""
    _, ports = bench.start_cluster(work, 3)
    first = bench.BUCKET.replace("aid", "id")
    for port, where in zip(ports, ("true", f"({first}) < 8192", f"({first}) >= 8192")):
        columns = COLUMNS.format(id="id").replace("lpad(id,", "lpad(id::text,")
        bench.psql(port, f"""{TABLE} INSERT INTO sbtest1 SELECT {columns}
            FROM (SELECT generate_series(1, {ROWS}) AS id) AS keys WHERE {where}; VACUUM ANALYZE sbtest1;""")
    return {"ports": ports, "first": bench.psql(ports[1], "SELECT id FROM sbtest1").split()}


def start_mariadb(bench, first):
    """The same rows on servers of MariaDB."""
    command = [bench.BINARY, "dev-cluster", "--engine", "mariadb", "--shards", "3", "--database", "bench",
               "--set", "innodb-buffer-pool-size=256M", "--set", "skip-log-bin="]
    servers = bench.Server(command, None, stdout=subprocess.PIPE, text=True)
    line = servers.process.stdout.readline()
    if not line:
        sys.exit("the servers of MariaDB do not start")
    ports = [node["port"] for node in json.loads(line)["nodes"]]
    listed = ", ".join(first)
    for port, where in zip(ports, ("TRUE", f"id IN ({listed})", f"id NOT IN ({listed})")):
        ask(port, "bench", f"""{TABLE} INSERT INTO sbtest1 SELECT {COLUMNS.format(id="seq")} FROM seq_1_to_{ROWS};
            DELETE FROM sbtest1 WHERE NOT ({where}); ANALYZE TABLE sbtest1;""")
    return ports


def ask(port, database, sql):
    command = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(port), "-u", "demo", "-pdemo", "-N", "-B", database]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"mariadb on port {port}: {done.stderr.strip()}")
    return done.stdout.strip()


def start_shardway(bench, work, postgres, mariadb):
    ports = {engine: bench.free_port() for engine in ENGINES}
    databases = ""
    for engine, (one, two) in (("postgres", postgres), ("mariadb", mariadb)):
        about = "database: bench" if engine == "postgres" else \
            "engine: mysql, database: bench, control: {user: control, password: control}, reads: {from: primary}"
        for name, places in (("one", [one]), ("two", two)):
            shards = ", ".join(f"s{number + 1}: ['127.0.0.1:{place}']" for number, place in enumerate(places))
            databases += f"  {name}_{engine}: {{{about}, shards: {{{shards}}}, " \
                "groups: {test: {key: int, tables: {sbtest1: id}}}}\n"
    path = work / "shard-map.yaml"
    path.write_text(f"""version: 1
listen: {{postgres: 127.0.0.1:{ports["postgres"]}, mysql: 127.0.0.1:{ports["mariadb"]}}}
databases:
{databases}pool: {{size: {bench.POOL}}}
users: {{demo: {{password: demo}}}}
log: {{level: error}}
""")
    return bench.Server([bench.BINARY, "serve", "--map", str(path)], ports["postgres"]), ports


def until_answers(engine, port, database, server):
    """Waits until a row can be asked for."""
    deadline = time.monotonic() + 60
    while True:
        done = sysbench(engine, port, database, "disable", 1, "--events=1", "--time=0")
        if done.returncode == 0:
            return
        if server.process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{database} on port {port} does not answer: {done.stdout}{done.stderr}")
        time.sleep(0.05)


# ── measuring ──


def sysbench(engine, port, database, mode, clients, *more):
    driver = "pgsql" if engine == "postgres" else "mysql"
    command = ["sysbench", "oltp_point_select", f"--db-driver={driver}", f"--{driver}-host=127.0.0.1",
               f"--{driver}-port={port}", f"--{driver}-user=demo", f"--{driver}-password=demo", f"--{driver}-db={database}",
               f"--table-size={ROWS}", f"--db-ps-mode={mode}", f"--threads={clients}", "--percentile=99", *more, "run"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_once(options, engine, target, case):
    (port, database, server), (protocol, clients) = target, case
    before = server.cpu_seconds() if server else 0
    done = sysbench(engine, port, database, PROTOCOLS[protocol], clients, f"--time={options.seconds}")
    cpu = server.cpu_seconds() - before if server else None
    if done.returncode:
        sys.exit(f"sysbench {protocol} with {clients} clients on {database}: {done.stdout}{done.stderr}")
    count, rate = re.search(r"queries: +(\d+) +\(([\d.]+) per sec", done.stdout).groups()
    p99 = re.search(r"99th percentile: +([\d.]+)", done.stdout).group(1)
    return float(rate), float(p99), cpu and cpu * 1e6 / int(count)


def report(options, cases, names, results):
    lines = []
    print(f"\n{'sysbench point select':24}{'':32}{'qps':>10}{'p99 ms':>10}{'CPU µs':>10}"
          f"   median of {options.rounds} runs of {options.seconds} s")
    for protocol, clients in cases:
        title = f"{protocol} {clients}"
        for engine, name in names:
            runs = results[(protocol, clients), (engine, name)]
            rate, p99 = (statistics.median(run[index] for run in runs) for index in (0, 1))
            cpu = None if runs[0][2] is None else statistics.median(run[2] for run in runs)
            shown = "–" if cpu is None else f"{cpu:.1f}"
            print(f"{title:24}{engine + ' ' + name:32}{rate:10.0f}{p99:10.2f}{shown:>10}")
            title = ""
            lines.append({"sysbench": "point_select", "engine": engine, "protocol": protocol, "clients": clients, "target": name,
                          "qps": round(rate, 1), "p99_ms": round(p99, 3), "cpu_us": cpu and round(cpu, 2)})
    cpu = {(line["protocol"], line["clients"], line["target"], line["engine"]): line["cpu_us"] for line in lines}
    for protocol, clients in cases:
        for target in ("shardway, one shard", "shardway, two shards"):
            ours, theirs = (cpu.get((protocol, clients, target, engine)) for engine in ("mariadb", "postgres"))
            if ours and theirs:
                print(f"point select {protocol} {clients}: CPU of {target}, MariaDB / Postgres = {ours / theirs:.2f}, at most {MOST}")
    text = "\n".join(json.dumps(line) for line in lines)
    print("\n" + text)
    if options.json:
        # Behind the other rows, where there are some.
        with Path(options.json).open("w" if options.mysql else "a") as file:
            file.write(text + "\n")
    return lines
