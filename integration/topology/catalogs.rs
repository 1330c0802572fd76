//! What the catalogs say, and whether every change of them is noticed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shardway::clock;
use shardway::clock::Tick;
use shardway::ident::TableName;
use shardway::schema::RelationKind;
use shardway::shard_map::Database;
use shardway::shard_map::Environment;
use shardway::shard_map::ShardMap;
use shardway::tasks;
use shardway::topology::SchemaHandle;
use shardway::topology::Topology;
use shardway::topology::connect_check::check_connect;
use shardway::topology::control;
use shardway::topology::control::Control;
use shardway::topology::control::Purpose;
use shardway::topology::fit;
use shardway::topology::fit::Finding;
use shardway::topology::fit::Refuses;
use shardway::topology::fit::Severity;
use shardway::topology::placement;
use shardway::topology::placement::PlacementError;
use shardway::topology::schema_reader;
use tokio::sync::watch;

use crate::servers::Server;
use crate::servers::login;
use crate::servers::timeouts;

/// Nothing but the map itself.
struct Nowhere;

impl Environment for Nowhere {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, _path: &Path) -> Result<String, String> {
        Err("there are no files here".to_owned())
    }
}

/// A map of these servers, one a shard, with the usual tables; `more` is added to the database.
fn map(servers: &[&Server], more: &str) -> ShardMap {
    let shard = |(place, it): (usize, &&Server)| format!("      s{}: [127.0.0.1:{}]\n", place + 1, it.port);
    let shards: String = servers.iter().enumerate().map(shard).collect();
    let text = format!(
        "version: 1\nlisten: {{postgres: 127.0.0.1:6432}}\ndatabases:\n  shop:\n    shards:\n{shards}\
         \x20   groups:\n      customer:\n        key: bigint\n\
         \x20       tables: {{customers: id, orders: customer_id, order_items: customer_id}}\n\
         \x20   reference: [countries]\n    unsharded: {{s2: [settings]}}\n{more}\
         users:\n  shardway: {{auth: trust}}\n"
    );
    match ShardMap::parse("map", &text, &Nowhere) {
        Ok((map, _)) => map,
        Err(mistakes) => panic!("{}", mistakes.iter().map(ToString::to_string).collect::<String>()),
    }
}

/// A map of one server.
fn lone(server: &Server) -> ShardMap {
    let text = format!(
        "version: 1\nlisten: {{postgres: 127.0.0.1:6432}}\ndatabases: {{shop: {{shards: {{s1: [127.0.0.1:{}]}}, unlisted: s1}}}}\n\
         users: {{shardway: {{auth: trust}}}}\n",
        server.port
    );
    match ShardMap::parse("map", &text, &Nowhere) {
        Ok((map, _)) => map,
        Err(mistakes) => panic!("{}", mistakes.iter().map(ToString::to_string).collect::<String>()),
    }
}

fn shop(map: &ShardMap) -> Arc<Database> {
    Arc::clone(&map.databases["shop"])
}

const TABLES: &str = "
create table customers (id bigint primary key, name text);
create table orders (customer_id bigint not null references customers, id bigint, primary key (customer_id, id));
create table order_items (customer_id bigint not null, order_id bigint, n int,
    foreign key (customer_id, order_id) references orders);
create table countries (code text primary key);";

const ITEMS: &str = "
create table order_items (customer_id bigint not null, order_id bigint, n int,
    foreign key (customer_id, order_id) references orders)";

const SETTINGS: &str = "create table settings (name text primary key, value text);";

async fn watching(map: &ShardMap) -> (Arc<Topology>, Arc<SchemaHandle>, watch::Sender<bool>) {
    let topology = Topology::new(shop(map), login(), &timeouts());
    let schema = SchemaHandle::new(Arc::clone(&topology));
    let (stop, stopped) = watch::channel(false);
    tasks::shared("topology", Arc::clone(&topology).run(stopped.clone()));
    tasks::shared("schema", Arc::clone(&schema).run(stopped));
    assert!(topology.heard(soon(10)).await);
    assert!(schema.ready(soon(10)).await);
    schema.refresh_now().await.unwrap();
    (topology, schema, stop)
}

fn soon(seconds: u64) -> Tick {
    clock::now().plus(Duration::from_secs(seconds))
}

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    let mut codes: Vec<_> = findings.iter().filter(|it| it.severity != Severity::Note).map(|it| it.code).collect();
    codes.sort_unstable();
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_moves_the_watermark_and_nothing_else_does() {
    let server = Server::primary("autovacuum = off").await;
    let admin = server.connect().await;
    admin.batch_execute(TABLES).await.unwrap();
    let map = lone(&server);
    let control = Control::new(&shop(&map), login(), Duration::from_secs(3));
    let mut connection = control.connect(&server.node(), Purpose::Schema).await.unwrap();
    for (statement, changes) in [
        ("create schema sales", true),
        ("alter schema sales rename to trade", true),
        ("create table trade.t (a int, b text)", true),
        ("alter table trade.t rename to u", true),
        ("alter table trade.u set schema public", true),
        ("alter table u add column c int default 1", true),
        ("alter table u alter c set default 2", true),
        ("alter table u alter c drop default", true),
        ("alter table u alter a type bigint", true),
        ("alter table u alter a set not null", true),
        ("alter table u rename b to bb", true),
        ("alter table u drop column c", true),
        ("alter table u alter a add generated always as identity", true),
        ("alter table u alter a drop identity", true),
        ("create unique index u_a on u (a)", true),
        ("alter index u_a rename to u_b", true),
        ("drop index u_b", true),
        ("alter table u add primary key (a)", true),
        ("alter table u add foreign key (a) references customers", true),
        ("alter table u drop constraint u_a_fkey", true),
        ("create function f() returns trigger language plpgsql as 'begin return new; end'", true),
        ("create trigger g before insert on u for each row execute function f()", true),
        ("alter table u disable trigger g", true),
        ("drop trigger g on u", true),
        ("create rule r as on insert to u do also nothing", true),
        ("drop rule r on u", true),
        ("alter table u enable row level security", true),
        ("create view v as select a from u", true),
        ("create or replace view v as select a, 1 as one from u", true),
        ("drop view v", true),
        ("create type mood as enum ('sad', 'ok')", true),
        ("create domain positive as int check (value > 0)", true),
        ("drop type mood", true),
        ("create table p (a int) partition by list (a)", true),
        ("create table p1 partition of p for values in (1)", true),
        ("alter table p detach partition p1", true),
        ("create collation nobody (provider = icu, locale = 'und', deterministic = false)", true),
        ("create operator === (leftarg = int, rightarg = int, function = int4eq)", true),
        ("drop operator === (int, int)", true),
        ("create sequence s", true),
        ("drop sequence s", true),
        ("create temporary table x (a int); create temporary view y as select * from x", false),
        ("insert into customers select n, 'x' from generate_series(1, 1000) n", false),
        ("update customers set name = 'y'", false),
        ("analyze customers", false),
        ("vacuum customers", false),
        ("create index on customers (name)", false),
        ("grant select on pg_class to public", false),
    ] {
        let before = schema_reader::watermark(&mut connection).await.unwrap();
        admin.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        let after = schema_reader::watermark(&mut connection).await.unwrap();
        assert_eq!(before != after, changes, "{statement}");
    }
    for rounds in 0..2 {
        let before = schema_reader::read(&mut connection).await.unwrap();
        let again = schema_reader::read(&mut connection).await.unwrap();
        assert_eq!(before.schema.digest, again.schema.digest);
        admin.batch_execute(&format!("create table another{rounds} (a int)")).await.unwrap();
        assert_ne!(schema_reader::read(&mut connection).await.unwrap().schema.digest, before.schema.digest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_is_what_the_server_says() {
    let server = Server::primary("").await;
    let admin = server.connect().await;
    let script = "
create schema sales;
create collation sales.loose (provider = icu, locale = 'und', deterministic = false);
create type sales.mood as enum ('sad', 'ok');
create table parent (a int);
create table wide (
    dropped int, id bigint generated always as identity, s serial, m sales.mood default 'ok', v varchar(3),
    loose text collate sales.loose, twice int generated always as (1 + 1) stored,
    primary key (id), unique (v, id)) inherits (parent);
alter table wide drop column dropped;
create unique index wide_expression on wide (lower(v), id) include (s);
create function touch() returns trigger language plpgsql as 'begin return new; end';
create trigger before_row before insert or update on wide for each row execute function touch();
create trigger after_row after insert on wide for each row execute function touch();
create trigger before_statement before insert on wide for each statement execute function touch();
create trigger off before insert on wide for each row execute function touch();
alter table wide disable trigger off;
alter table wide enable row level security;
create table child (a int, wide_id bigint constraint to_wide references wide);
create view sales.seen as select w.id, m from wide w where v is not null;
create materialized view stored as select 1 as one;
create function sales.f(int) returns int language sql as 'select 1';
create operator sales.=== (leftarg = int, rightarg = int, function = int4eq);
create unlogged table quick (a int);";
    admin.batch_execute(script).await.unwrap();
    let map = lone(&server);
    let control = Control::new(&shop(&map), login(), Duration::from_secs(3));
    let mut connection = control.connect(&server.node(), Purpose::Schema).await.unwrap();
    let catalog = schema_reader::read(&mut connection).await.unwrap();
    let schema = &catalog.schema;
    assert!(schema.server_version >= 130_000);
    let wide = schema.relation(&TableName::new("public", "wide")).unwrap();
    let names: Vec<_> = wide.columns.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["a", "id", "s", "m", "v", "loose", "twice"]);
    let column = |name: &str| &wide.columns[wide.column(name).unwrap()];
    assert_eq!((column("id").identity, column("id").uses_sequence, column("id").not_null), (Some('a'), true, true));
    assert!(column("s").uses_sequence && column("s").default.as_ref().is_some_and(|it| it.contains("nextval(")));
    assert_eq!(&*column("m").type_name, "sales.mood");
    assert_eq!((&*column("v").type_name, column("v").type_modifier), ("character varying", 7));
    assert!(!column("loose").deterministic && column("v").deterministic);
    assert!(column("twice").generated && !column("twice").uses_sequence);
    assert_eq!(wide.primary_key, Some(vec![1]));
    let unique: BTreeMap<_, _> = wide.unique.iter().map(|it| (&*it.name, it.columns.clone())).collect();
    assert_eq!(unique["wide_expression"], [None, Some(1)]);
    assert_eq!(unique["wide_v_id_key"], [Some(4), Some(1)]);
    let triggers: BTreeMap<_, _> = wide.triggers.iter().map(|it| (&*it.name, it.before_row)).collect();
    assert_eq!(triggers, BTreeMap::from([("before_row", true), ("after_row", false), ("before_statement", false)]));
    assert!(wide.row_security && !wide.has_rules);
    assert_eq!(wide.parents, [TableName::new("public", "parent")]);
    assert!(schema.relation(&TableName::new("public", "parent")).unwrap().has_children);
    let child = schema.relation(&TableName::new("public", "child")).unwrap();
    assert_eq!(&*child.foreign_keys[0].name, "to_wide");
    assert_eq!(child.foreign_keys[0].columns, [1]);
    assert_eq!(&*child.foreign_keys[0].referenced_columns[0], "id");
    let view = schema.relation(&TableName::new("sales", "seen")).unwrap();
    assert_eq!(view.kind, RelationKind::View);
    assert!(view.definition.as_ref().is_some_and(|it| it.contains("public.wide w")), "{:?}", view.definition);
    assert!(!view.has_rules);
    assert_eq!(schema.relation(&TableName::new("public", "stored")).unwrap().kind, RelationKind::MaterializedView);
    assert_eq!(schema.relation(&TableName::new("public", "quick")).unwrap().persistence, 'u');
    assert_eq!(schema.user_functions["f"], [Arc::from("sales")]);
    assert_eq!(schema.user_operators["==="], [Arc::from("sales")]);
    let mood = &schema.user_types[&TableName::new("sales", "mood")];
    assert_eq!(mood.kind, 'e');
    assert_eq!(catalog.types["sales.mood"], mood.oid);
    assert_eq!(catalog.types["sales.mood[]"], mood.array_oid);
    assert!(!schema.user_types.contains_key(&TableName::new("public", "wide")));
    assert!(catalog.types.contains_key("public.wide"));
    assert!(schema.system_relations.contains("pg_class") && schema.system_relations.contains("pg_stat_activity"));
    assert!(schema.namespaces.contains("sales") && schema.namespaces.contains("pg_catalog"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_read_at_once_when_asked_for_and_within_a_second_or_so_behind_the_back() {
    let (one, two) = tokio::join!(Server::primary(""), Server::primary(""));
    one.execute(TABLES).await;
    two.execute(&format!("create type early as enum ('a');{TABLES}{SETTINGS}")).await;
    let map = map(&[&one, &two], "");
    let (_topology, schema, _stop) = watching(&map).await;
    let before = schema.current().unwrap();
    assert!(before.relation(&TableName::parse("settings")).is_some(), "a table that lives on s2 is known, too");
    assert!(Arc::ptr_eq(&schema.refresh_now().await.unwrap(), &before), "what did not change stays the same");
    assert_eq!(codes(&schema.state().findings), Vec::<&str>::new());

    // Types made in another order have other OIDs.
    one.execute("create type late as enum ('b')").await;
    two.execute("create type late as enum ('b')").await;
    let after = schema.refresh_now().await.unwrap();
    assert_ne!(after.digest, before.digest);
    let late = after.user_types[&TableName::parse("late")].oid;
    let state = schema.state();
    assert!(state.type_oids[0].is_none());
    assert!(state.type_oids[1].as_ref().unwrap().known.values().any(|it| *it == late));

    // Behind the proxy's back, on a shard that is not the catalog shard.
    two.execute("alter table orders add column extra int").await;
    let began = clock::now();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while schema.state().unfit.is_empty() {
        assert!(clock::now().since(began) < Duration::from_secs(5));
        tick.tick().await;
    }
    assert!(clock::now().since(began) < Duration::from_secs(2));
    let state = schema.state();
    let unfit = &state.unfit[&TableName::parse("orders")];
    assert_eq!(unfit.refuses, Refuses::Everything);
    assert!(unfit.refusal(false).unwrap().to_string().contains("\"extra\""), "{unfit:?}");
    two.execute("alter table orders drop column extra").await;
    schema.refresh_now().await.unwrap();
    assert!(schema.state().unfit.is_empty());

    // A map that replaces this one goes on with what was read.
    let topology = Topology::new(shop(&map), login(), &timeouts());
    assert!(SchemaHandle::after(Some(&schema), topology).current().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_found_and_refuses_that_table_only() {
    let (one, two) = tokio::join!(Server::primary(""), Server::primary(""));
    for it in [&one, &two] {
        it.execute(&format!("{TABLES}{SETTINGS}")).await;
    }
    let map = map(&[&one, &two], "");
    let (_topology, schema, _stop) = watching(&map).await;
    let database = shop(&map);
    let plain = Refuses::Nothing;
    for (change, undo, code, table, refuses) in [
        ("drop table order_items", ITEMS, "table-missing", "order_items", Refuses::Everything),
        (
            "alter table countries add n int",
            "alter table countries drop n",
            "columns-differ",
            "countries",
            Refuses::Everything,
        ),
    ] {
        two.execute(change).await;
        schema.refresh_now().await.unwrap();
        let state = schema.state();
        assert_eq!(codes(&state.findings), [code], "{change}");
        assert_eq!(state.unfit[&TableName::parse(table)].refuses, refuses, "{change}");
        assert_eq!(state.unfit.len(), 1);
        two.execute(undo).await;
    }
    for (change, code, table, refuses) in [
        ("alter table order_items alter customer_id drop not null", "key-nullable", "order_items", plain),
        ("alter table order_items alter customer_id type int", "key-type", "order_items", Refuses::Everything),
        ("alter table order_items drop customer_id", "key-missing", "order_items", Refuses::Everything),
        (
            "alter table order_items drop customer_id; \
             alter table order_items add customer_id bigint not null generated always as (1) stored",
            "key-generated",
            "order_items",
            Refuses::Everything,
        ),
        ("alter table customers add email text unique", "unique-without-key", "customers", Refuses::Writes),
        (
            "create table other (a bigint primary key); alter table orders add foreign key (id) references other",
            "foreign-key-leaves",
            "orders",
            Refuses::Writes,
        ),
        (
            "create unique index only_items on order_items (customer_id, n); \
          alter table orders add x bigint, add y int; alter table orders add foreign key (x, y) \
          references order_items (customer_id, n)",
            "foreign-key-without-key",
            "orders",
            plain,
        ),
        ("alter table orders add n serial", "local-sequence", "orders", plain),
        (
            "create function f() returns trigger language plpgsql as 'begin return new; end'; \
          create trigger g before insert on orders for each row execute function f()",
            "before-row-trigger",
            "orders",
            Refuses::Writes,
        ),
        ("create rule r as on delete to orders do instead nothing", "rewrite-rule", "orders", Refuses::Everything),
        (
            "drop table countries; create view countries as select 'DE' as code",
            "not-a-table",
            "countries",
            Refuses::Everything,
        ),
    ] {
        let mut schemas = Vec::new();
        for it in [&one, &two] {
            // In a database of its own, so that nothing need be undone.
            let admin = it.connect_to("postgres", "postgres").await;
            admin.batch_execute("drop database if exists trial with (force)").await.unwrap();
            admin.batch_execute("create database trial").await.unwrap();
            let trial = it.connect_to("trial", "postgres").await;
            trial.batch_execute(&format!("{TABLES}{SETTINGS}")).await.unwrap();
            trial.batch_execute(change).await.unwrap_or_else(|error| panic!("{change}: {error:?}"));
            let elsewhere = Database { server_name: "trial".into(), ..(*database).clone() };
            let control = Control::new(&elsewhere, login(), Duration::from_secs(3));
            let mut connection = control.connect(&it.node(), Purpose::Check).await.unwrap();
            schemas.push(schema_reader::read(&mut connection).await.unwrap().schema);
        }
        let schemas: Vec<_> = schemas.iter().map(|it| Some(&**it)).collect();
        let findings = fit::compare(&database, &schemas);
        assert_eq!(codes(&findings), [code], "{change}: {findings:?}");
        let found = findings.iter().find(|it| it.code == code).unwrap();
        assert_eq!((found.table.clone(), found.refuses), (Some(TableName::parse(table)), refuses), "{change}");
        assert!(!found.hint.is_empty());
        let mut vouched = (*database).clone();
        vouched.trusted_triggers.push(TableName::parse("orders"));
        assert_eq!(fit::compare(&vouched, &schemas).iter().any(|it| it.code == code), code != "before-row-trigger");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_connect_tells_what_the_servers_are_like() {
    let (one, two) =
        tokio::join!(Server::primary("max_prepared_transactions = 10"), Server::primary("max_connections = 15"));
    for it in [&one, &two] {
        it.execute(&format!("{TABLES}{SETTINGS}")).await;
    }
    let findings = check_connect(&map(&[&one, &two], "")).await;
    assert_eq!(
        codes(&findings),
        ["no-prepared-transactions", "too-few-connections", "two-phase-not-set-up"],
        "{findings:?}"
    );
    assert!(findings.iter().any(|it| it.code == "wal-level" && it.severity == Severity::Note));

    // Row types differ wherever tables do; what is told are types that somebody made.
    one.execute("create table alone (id int)").await;
    for it in [&one, &two] {
        it.execute("create table late (id int)").await;
    }
    let note = |findings: Vec<Finding>| findings.into_iter().find(|it| it.code == "type-oids-differ");
    assert_eq!(note(check_connect(&map(&[&one, &two], "")).await), None);
    for it in [&one, &two] {
        it.execute("create type late_mood as enum ('good')").await;
    }
    let told = note(check_connect(&map(&[&one, &two], "")).await).unwrap().message;
    assert!(told.ends_with(": public.late_mood, public.late_mood[]"), "{told}");

    let replica = Server::replica_of(&one).await;
    let findings = check_connect(&map(&[&one, &replica], "")).await;
    assert!(codes(&findings).contains(&"system-of-another-shard"), "{findings:?}");
    assert!(codes(&findings).contains(&"no-primary"));

    let text = map(&[&one, &two], "").databases["shop"].clone();
    let mut both = map(&[&one, &two], "");
    let mut database = (*text).clone();
    database.shards[0].nodes.push(two.node());
    database.shards[1].nodes = vec![replica.node()];
    both.databases.insert("shop".into(), Arc::new(database));
    let found = codes(&check_connect(&both).await);
    for code in ["system-differs", "two-primaries", "no-primary"] {
        assert!(found.contains(&code), "{code}: {found:?}");
    }

    two.execute("alter role shardway nologin").await;
    let findings = check_connect(&map(&[&one, &two], "")).await;
    let unreachable = findings.iter().find(|it| it.code == "node-unreachable").unwrap();
    assert_eq!(unreachable.severity, Severity::Error);
    assert!(unreachable.message.contains("not permitted to log in"), "{unreachable}");
    assert_eq!(control::login(&both, &shop(&both)).map(|it| it.user), Some("shardway".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placement_is_recorded_once_and_never_changed_silently() {
    let (one, two) = tokio::join!(Server::primary(""), Server::primary(""));
    let both = map(&[&one, &two], "");
    let topology = Topology::new(shop(&both), login(), &timeouts());
    let (_stop, stopped) = watch::channel(false);
    tasks::shared("topology", Arc::clone(&topology).run(stopped));
    assert!(topology.heard(soon(10)).await);
    let print = |group: &str, text: &str| (Arc::from(group), text.to_owned());
    let first = [print("customer", "hash 0-16383 s1"), print("branch", "list")];

    let refused = placement::reconcile(&topology, &first).await.unwrap_err();
    let PlacementError::Rights { remedy, .. } = &refused else { panic!("{refused:?}") };
    assert!(refused.hint().contains(remedy));
    one.execute(remedy).await;
    two.execute("create schema shardway").await;
    let refused = placement::reconcile(&topology, &first).await.unwrap_err();
    let PlacementError::Rights { remedy, shard, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(&*shard, "s2");
    two.execute(&remedy).await;

    let recorded = placement::reconcile(&topology, &first).await.unwrap();
    // s1 was recorded before s2 refused.
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    assert!(recorded.iter().all(|it| &*it.shard == "s2"));
    assert_eq!(placement::reconcile(&topology, &first).await, Ok(Vec::new()));

    let changed = [print("customer", "hash 0-8191 s1"), print("branch", "list"), print("new", "range")];
    let PlacementError::Differs(differences) = placement::reconcile(&topology, &changed).await.unwrap_err() else {
        panic!("not refused")
    };
    assert_eq!(differences.len(), 2);
    assert_eq!(differences[0].recorded, "hash 0-16383 s1");
    let rows = one.connect().await.query("select grp from shardway.placement order by 1", &[]).await.unwrap();
    let groups: Vec<String> = rows.iter().map(|it| it.get(0)).collect();
    assert_eq!(groups, ["branch", "customer"], "nothing is recorded beside a difference");

    let renamed = [print("clients", "hash 0-16383 s1"), print("branch", "list")];
    let gone = placement::reconcile(&topology, &renamed).await.unwrap_err();
    assert!(gone.hint().contains("DELETE FROM shardway.placement WHERE grp IN ('customer');"), "{}", gone.hint());

    one.execute("delete from shardway.placement where grp = 'branch'").await;
    let recorded = placement::reconcile(&topology, &first).await.unwrap();
    assert_eq!(recorded.len(), 1, "a shard that lacks what others have gets it");
}
