"""A second proxy before the demo's servers of MariaDB, with TLS, a user who has a password, and more tables.

    mysql_house.py SHARDWAY MAP FOLDER

Reads the demo's MAP, makes the tables of mysql_tables.sql on its primaries, writes a map of its own and a certificate into FOLDER,
prints "PORT", and becomes the proxy. FOLDER/first then holds the keys of the drivers' customers that lie on the first shard.
"""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Where the customers of the drivers' begin, and how many each has.
BASES = range(10_000_000, 20_000_000, 1_000_000)
EACH = 3000


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    shardway, demo, folder = sys.argv[1], Path(sys.argv[2]).read_text(), Path(sys.argv[3])
    mysql = demo[demo.index("\n  shop_mysql:"):]
    mysql = mysql[:mysql.index("\n\n")]
    primaries = [int(port) for port in re.findall(r"name: s\d+-a, host: 127.0.0.1, port: (\d+)", mysql)]
    for port in primaries:
        command = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(port), "-u", "demo", "shop"]
        subprocess.run(command, input=(HERE / "mysql_tables.sql").read_text(), text=True, check=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
    port = free_port()
    # The Postgres side is the demo's own business. Some of these tables the drivers make themselves.
    mysql = mysql.replace("customers: id,", "customers: id, typed: id, writers: id, books: writer_id, sa_authors: id, sa_posts: author_id, "
                          "dj_author: id, dj_post: author_id,")
    mysql = mysql.replace("s1: [settings]", "s1: [settings, notes, sa_settings, django_migrations]")
    path = folder / "shard-map.yaml"
    path.write_text(f"""version: 1
listen:
  mysql: 127.0.0.1:{port}
  tls: {{cert: {cert}, key: {key}}}
databases:{mysql}
users:
  demo: {{auth: trust}}
  app: {{password: so secret, server: {{user: demo}}}}
log: {{level: warn}}
""")
    first = subprocess.run(["psql", "-X", "-A", "-t", re.search(r"postgres: (127.0.0.1:\d+)", demo)[1].join(
        ["postgres://demo@", "/shop"])], input="".join(
        f"SELECT id FROM generate_series({base}::bigint, {base + EACH}) AS id WHERE "
        "(((hashint8extended(id, 8816678312871386365) & 16383) + 10467) & 16383) < 8192;\n" for base in BASES),
        text=True, check=True, capture_output=True)
    (folder / "first").write_text(first.stdout)
    proxy = subprocess.Popen([shardway, "serve", "--map", str(path)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(port), "-u", "demo", "shop", "-e",
                              "SELECT body FROM notes; SELECT name FROM writers WHERE id = 1"],
                             capture_output=True, check=False).returncode:
            if proxy.poll() is not None or time.monotonic() > deadline:
                sys.exit("the proxy for the drivers of MySQL does not answer")
            time.sleep(0.05)
        print(port, flush=True)
        sys.exit(proxy.wait())
    finally:
        if proxy.poll() is None:
            proxy.terminate()
            proxy.wait(30)


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
