#!/bin/bash
# Integration tests on real servers: `integration/run.sh NAME...` or `all`; without arguments it lists the names.
#
# A name is a Rust test of this folder (cluster …), a driver (psql, psycopg, asyncpg, node, jdbc; of MySQL mariadb, pymysql,
# mysqlconnector, mysql2, mariadb_jdbc, mysql_async, sqlalchemy, django), sysbench, readme, or docker (which is not
# part of all: it takes a Docker engine, and some minutes to prepare images).
# Drivers share one demo, started here on free ports and stopped at the end; those of MySQL share a second proxy before it. Each test is a line "ok NAME" or
# "FAIL NAME: why"; the last line counts.
set -uo pipefail
cd "$(dirname "$0")/.."
mysql_drivers='mariadb pymysql mysqlconnector mysql2 mariadb_jdbc mysql_async sqlalchemy django'
drivers="psql psycopg asyncpg node jdbc $mysql_drivers"
rust=$(sed -n 's|^path = "integration/\(.*\)\.rs"|\1|p' Cargo.toml)
passed=0 failed=0
work=$(mktemp -d)
# Thousands of clients need a file each, here and in the proxy.
ulimit -n "$(ulimit -Hn)"
demo_pid= house_pid=

finish() {
    if [ -n "$house_pid" ]; then kill -TERM "$house_pid" 2>/dev/null; wait "$house_pid"; fi
    if [ -n "$demo_pid" ]; then kill -TERM "$demo_pid" 2>/dev/null; wait "$demo_pid"; fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Counts the lines of one program; one that ends badly without a FAIL line has failed as a whole.
count() {
    local name=$1 status=$2 good bad
    good=$(grep -c '^ok ' "$work/out")
    bad=$(grep -c '^FAIL ' "$work/out")
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || { [ "$good" -eq 0 ] && ! grep -q '^skipped ' "$work/out"; }; }; then
        echo "FAIL $name: ended with $status after $good tests"
        bad=1
    fi
    passed=$((passed + good)) failed=$((failed + bad))
}

run_program() {
    local name=$1
    shift
    echo "-- $name"
    "$@" 2>&1 | tee "$work/out"
    count "$name" "${PIPESTATUS[0]}"
}

# With `check`, what sessions leave on connections is looked at whenever one is handed out; with `mistakes`, a build that
# makes mistakes must be noticed.
run_rust() {
    echo "-- $*"
    local status threads=()
    # What measures has the machine for itself, and its figures are shown.
    if grep -q '"figure: ' "integration/$1.rs"; then threads=(--test-threads 1); fi
    local check=()
    if [ "${2-}" = check ]; then check=(env SHARDWAY_CHECK_HANDOUT=1); fi
    local seeded=()
    if [ "${2-}" = mistakes ]; then seeded=(--features mistakes every_seeded); fi
    if grep -q SHARDWAY_TEST_PORT "integration/$1.rs"; then
        start_demo || { echo "FAIL $1: the demo does not start"; failed=$((failed + 1)); return; }
        export SHARDWAY_TEST_PORT=$port
    fi
    if grep -q SHARDWAY_MYSQL_HOUSE "integration/$1.rs"; then
        start_house || { echo "FAIL $1: its proxy does not start"; failed=$((failed + 1)); return; }
    fi
    if cargo nextest --version >/dev/null 2>&1; then
        ${check+"${check[@]}"} cargo nextest run --no-fail-fast --color never --status-level pass --success-output immediate \
            ${threads+"${threads[@]}"} --test "$1" ${seeded+"${seeded[@]}"} >"$work/rust" 2>&1
        status=$?
        # "PASS [ 1.2s] (1/5) shardway::cluster a_name", and each once more in the summary.
        sed -n 's/^ *PASS \[.*\] *\(([^)]*)\)\{0,1\} *[^ ]* \(.*\)$/ok \2/p' "$work/rust" | sort -u >"$work/out"
        sed -n 's/^ *\(FAIL\|TIMEOUT\|SIGABRT\|SIGSEGV\) \[.*\] *\(([^)]*)\)\{0,1\} *[^ ]* \(.*\)$/FAIL \3/p' "$work/rust" |
            sort -u >>"$work/out"
    else
        ${check+"${check[@]}"} cargo test --no-fail-fast --test "$1" ${seeded+"${seeded[@]}"} -- --show-output ${threads+"${threads[@]}"} >"$work/rust" 2>&1
        status=$?
        sed -n 's/^test \(.*\) \.\.\. ok$/ok \1/p; s/^test \(.*\) \.\.\. FAILED$/FAIL \1/p' "$work/rust" >"$work/out"
    fi
    sed -n 's/^ *figure: /   /p' "$work/rust"
    cat "$work/out"
    # What a test counted.
    sed -n 's/^ *\(oracle: .*\)/    \1/p' "$work/rust"
    [ "$status" -eq 0 ] || sed 's/^/    | /' "$work/rust"
    count "$1" "$status"
}

# All Rust tests in one run, so that none waits for the end of a program whose last test is slow. Figures are shown, but
# are not those of a machine that has nothing else to do.
run_together() {
    if ! cargo nextest --version >/dev/null 2>&1; then
        for name in $rust; do run_rust "$name"; done
        return
    fi
    start_demo || { echo "FAIL rust: the demo does not start"; failed=$((failed + 1)); return; }
    start_house || { echo "FAIL rust: the proxy for drivers of MySQL does not start"; failed=$((failed + 1)); return; }
    echo "-- $rust"
    # shellcheck disable=SC2086,SC2046 # a list of arguments
    SHARDWAY_TEST_PORT=$port cargo nextest run --no-fail-fast --color never --status-level pass \
        --success-output immediate --test-threads 3 $(printf -- '--test %s ' $rust) >"$work/rust" 2>&1
    local status=$?
    sed -n 's/^ *PASS \[ *\(.*\)\] *\(([^)]*)\)\{0,1\} *shardway::\([^ ]*\) \(.*\)$/ok \3 \4 (\1)/p' "$work/rust" | sort -u >"$work/out"
    sed -n 's/^ *\(FAIL\|TIMEOUT\|SIGABRT\|SIGSEGV\) \[.*\] *\(([^)]*)\)\{0,1\} *shardway::\(.*\)$/FAIL \3/p' "$work/rust" |
        sort -u >>"$work/out"
    sed -n 's/^ *figure: /   /p' "$work/rust"
    cat "$work/out"
    sed -n 's/^ *\(oracle: .*\)/    \1/p' "$work/rust"
    [ "$status" -eq 0 ] || sed 's/^/    | /' "$work/rust"
    count rust "$status"
}

# One demo for all drivers, on ports that nobody has.
start_demo() {
    [ -n "$demo_pid" ] && return 0
    [ -e "$work/demo.err" ] && return 1 # it was tried
    cargo build --quiet --bin shardway || return 1
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    target/debug/shardway demo --port "$port" >"$work/demo.out" 2>"$work/demo.err" &
    demo_pid=$!
    until grep -q '^Ctrl-C' "$work/demo.out"; do
        if ! kill -0 "$demo_pid" 2>/dev/null; then
            cat "$work/demo.out" "$work/demo.err"
            demo_pid=
            return 1
        fi
        sleep 0.1
    done
}

# One more proxy before its servers of MariaDB (drivers/mysql_house.py).
start_house() {
    [ -n "$house_pid" ] && return 0
    start_demo || return 1
    [ -e "$work/house" ] && return 1 # it was tried
    mkdir "$work/house"
    local map
    map=$(sed -n 's/^  map *\([^ ]*\).*/\1/p' "$work/demo.out")
    python3 integration/drivers/mysql_house.py target/debug/shardway "$map" "$work/house" >"$work/house.out" 2>"$work/house.err" &
    house_pid=$!
    until [ -s "$work/house.out" ]; do
        if ! kill -0 "$house_pid" 2>/dev/null; then
            cat "$work/house.err"
            house_pid=
            return 1
        fi
        sleep 0.1
    done
    mysql_port=$(cat "$work/house.out")
    export SHARDWAY_MYSQL_HOUSE=$work/house
}

# A program of Java: its name here, its class, the driver's file, and what it is told.
run_java() {
    local name=$1 class=$2 jar=/usr/share/java/$3
    shift 3
    mkdir -p target/drivers/java
    if javac -d target/drivers/java -cp "$jar" "integration/drivers/$class.java"; then
        run_program "$name" java -cp "target/drivers/java:$jar" "$class" "$@"
    else
        echo "FAIL $name: does not compile"
        failed=$((failed + 1))
    fi
}

# Each driver works on customers of its own, far from those of the demo and of other drivers.
run_driver() {
    ./.ci/setup test || { echo "FAIL $1: its packages are missing"; failed=$((failed + 1)); return; }
    start_demo || { echo "FAIL $1: the demo does not start"; failed=$((failed + 1)); return; }
    case " $mysql_drivers " in
    *" $1 "*) start_house || { echo "FAIL $1: its proxy does not start"; failed=$((failed + 1)); return; } ;;
    esac
    local here=integration/drivers python=target/drivers/venv/bin/python
    case $1 in
    mariadb) run_program mariadb python3 $here/mariadb_client.py "$mysql_port" 15000000 ;;
    pymysql) run_program pymysql $python $here/mysql_dbapi.py pymysql "$mysql_port" 10000000 ;;
    mysqlconnector)
        run_program mysqlconnector $python $here/mysql_dbapi.py connector "$mysql_port" 11000000
        run_program 'mysqlconnector, its C extension' $python $here/mysql_dbapi.py connector-c "$mysql_port" 12000000
        ;;
    mysql2) NODE_PATH=target/drivers/node/node_modules run_program mysql2 node $here/mysql_node.js "$mysql_port" 13000000 ;;
    mariadb_jdbc) run_java mariadb_jdbc Mariadb mariadb-java-client.jar "$mysql_port" 14000000 ;;
    mysql_async)
        if cargo build --quiet --manifest-path $here/mysql_async/Cargo.toml --target-dir target/drivers/mysql_async; then
            run_program mysql_async target/drivers/mysql_async/debug/shardway-mysql-async "$mysql_port" 19000000
        else
            echo "FAIL mysql_async: does not compile"
            failed=$((failed + 1))
        fi
        ;;
    sqlalchemy) run_program sqlalchemy $python $here/mysql_sqlalchemy.py "$mysql_port" 16000000 ;;
    django) run_program django $python $here/mysql_django.py "$mysql_port" 17000000 ;;
    psql) run_program psql python3 $here/psql.py "$port" 1000000 ;;
    psycopg) run_program psycopg $python $here/psycopg_driver.py "$port" 2000000 ;;
    asyncpg) run_program asyncpg $python $here/asyncpg_driver.py "$port" 3000000 ;;
    node) NODE_PATH=target/drivers/node/node_modules run_program node node $here/node.js "$port" 4000000 ;;
    jdbc) run_java jdbc Jdbc postgresql.jar "$port" 5000000 ;;
    esac
}

# Says how long it took.
timed() {
    local begun=$SECONDS
    "$@"
    echo "   $((SECONDS - begun)) s: $*"
}

run() {
    case " $drivers " in *" $1 "*) run_driver "$1"; return ;; esac
    case $1 in
    drivers) for name in $drivers; do run "$name"; done ;;
    readme) run_program readme python3 integration/readme ;;
    sysbench)
        if ./.ci/setup test && cargo build --quiet --bin shardway; then
            run_program sysbench integration/sysbench target/debug/shardway
        else
            echo "FAIL sysbench: it cannot be run"
            failed=$((failed + 1))
        fi
        ;;
    docker) run_program docker integration/docker/run ;;
    # Twice, for a hand-out that is looked at does not go the usual statement's way.
    sessions) run_rust sessions; run_rust sessions check ;;
    spread) run_rust spread; run_rust spread mistakes ;;
    all)
        timed run_together
        timed run_rust sessions check
        timed run_rust spread mistakes
        for name in $drivers sysbench readme; do timed run "$name"; done
        ;;
    *)
        if [ -e "integration/$1.rs" ]; then run_rust "$1"; else echo "FAIL $1: no such test"; failed=$((failed + 1)); fi
        ;;
    esac
}

if [ $# -eq 0 ]; then
    echo "usage: integration/run.sh all | NAME..., where NAME is one of:" $rust drivers $drivers sysbench readme docker
    exit 2
fi
for name in "$@"; do run "$name"; done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
