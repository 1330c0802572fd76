//! Arguments → settings → `server::run`, and nothing else.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use shardway::local_cluster::demo;
use shardway::local_cluster::dev;
use shardway::server;
use shardway::topology::verify::Request;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A sharding reverse proxy for the Postgres, MariaDB and MySQL servers that you already have.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients by a shard map.
    Serve {
        /// The map's file, or its place in etcd, where several proxies find it: etcd://HOST[:PORT][,HOST…]/PREFIX.
        #[arg(long, default_value = "shard-map.yaml")]
        map: PathBuf,
        /// Worker threads [default: one for two cores].
        #[arg(long)]
        workers: Option<usize>,
        /// Take over from the process that serves, once this one is ready to: no client is refused. Without one, just serve.
        #[arg(long)]
        takeover: bool,
        /// Where processes take over from each other [default: the map's file, with .takeover behind its name].
        #[arg(long)]
        takeover_socket: Option<PathBuf>,
        /// Listen there instead of where the map says, `listen: postgres`.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen_postgres: Option<SocketAddr>,
        /// The same of `listen: mysql`.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen_mysql: Option<SocketAddr>,
        /// The same of `listen: http`.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen_http: Option<SocketAddr>,
        /// Where other proxies of the map reach this one [default: the address that it listens on, or reaches etcd from].
        #[arg(long, value_name = "HOST")]
        advertise: Option<String>,
        /// Keep a copy of a map in etcd there, and start by it while etcd does not answer.
        #[arg(long, value_name = "FILE")]
        map_copy: Option<PathBuf>,
    },
    /// Look at and change the map that several proxies share by etcd.
    Map {
        #[command(subcommand)]
        command: MapCommand,
    },
    /// Tell what is wrong with a shard map: exit 0 clean or warnings only, 1 an error, 2 usage.
    Check {
        /// The map's file.
        #[arg(default_value = "shard-map.yaml")]
        map: PathBuf,
        /// Also look whether the servers are as the map says.
        #[arg(long)]
        connect: bool,
        /// Also set the shards up for transactions that span them: prints what it runs there. May be run again.
        #[arg(long, requires = "connect")]
        prepare: bool,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Compare reference tables and look whether every row is on its shard: exit 0 all right, 1 not, 2 could not look.
    Verify {
        /// The map's file.
        #[arg(default_value = "shard-map.yaml")]
        map: PathBuf,
        /// Look at this table alone; may be repeated.
        #[arg(long)]
        table: Vec<String>,
        /// How many rows of a table are named.
        #[arg(long, default_value_t = 10)]
        rows: usize,
        /// How many seconds one statement may take on a shard.
        #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
        timeout: u64,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Make another node of a Postgres shard its primary, losing nothing: the running proxy does it. Exit 0 done, 1 not.
    Switchover {
        /// The shard, or DATABASE.SHARD where several databases have one of that name.
        shard: String,
        /// The node that becomes its primary [default: the replica that has most].
        #[arg(long)]
        to: Option<String>,
        /// The map that the proxy serves: its console is at `listen: postgres`.
        #[arg(long, default_value = "shard-map.yaml")]
        map: PathBuf,
        /// The user of `admin:` to log in as [default: the first].
        #[arg(long)]
        user: Option<String>,
    },
    /// Print a JSON Schema of the map's format, for editors.
    Schema,
    /// Tell where a statement would go, without any server.
    Explain {
        /// The map's file.
        #[arg(long, default_value = "shard-map.yaml")]
        map: PathBuf,
        /// The database of the map [default: the first].
        #[arg(long)]
        database: Option<String>,
        /// The statement.
        sql: String,
    },
    /// Start a sharded sample shop on this machine; Ctrl-C removes it.
    Demo(demo::DemoOptions),
    /// Start bare servers for tests and benchmarks.
    #[command(hide = true)]
    DevCluster(dev::DevClusterOptions),
}

#[derive(Subcommand)]
enum MapCommand {
    /// Make a file the next version of the map, after `check`. Exit 0: all proxies serve it.
    Push {
        /// The file.
        file: PathBuf,
        /// Where the map is: etcd://HOST[:PORT][,HOST…]/PREFIX.
        #[arg(long)]
        map: PathBuf,
        /// The version that the file was made from [default: as its first line says, which `pull` writes].
        #[arg(long)]
        from: Option<u64>,
        /// How many seconds to wait for the proxies.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600))]
        wait: u64,
    },
    /// Print the map, headed by its version.
    Pull {
        /// Where the map is: etcd://HOST[:PORT][,HOST…]/PREFIX.
        #[arg(long)]
        map: PathBuf,
        /// Which version [default: the one in force].
        #[arg(long)]
        version: Option<u64>,
    },
    /// List the versions that are kept: when each was pushed, by whom, and which proxies serve it.
    History {
        /// Where the map is: etcd://HOST[:PORT][,HOST…]/PREFIX.
        #[arg(long)]
        map: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl From<Format> for shardway::shard_map::cli::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Serve {
            map,
            workers,
            takeover,
            takeover_socket,
            listen_postgres,
            listen_mysql,
            listen_http,
            advertise,
            map_copy,
        } => {
            server::log::start(&map);
            let listen = server::ListenAt { postgres: listen_postgres, mysql: listen_mysql, http: listen_http };
            let settings = server::Settings { map, workers, takeover, takeover_socket, listen, advertise, map_copy };
            match server::run(&settings, &server::Stop::default()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string()),
            }
        }
        Command::Map { command } => shared_map(command),
        Command::Check { map, connect: true, prepare: true, .. } => {
            match server::offline::prepare(&map, &mut |line| {
                // See `say`.
                let _ = writeln!(std::io::stdout(), "{line}");
            }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            }
        }
        Command::Check { map, connect, format, .. } => say(server::offline::check(&map, connect, format.into())),
        Command::Verify { map, table, rows, timeout, format } => {
            let request = Request { tables: table, statement: Duration::from_secs(timeout), rows };
            say(server::offline::verify(&map, &request, format.into(), &mut |line| {
                // See `say`.
                let _ = writeln!(std::io::stderr(), "{line}");
            }))
        }
        Command::Switchover { shard, to, map, user } => {
            let asked = server::offline::switchover(&map, &shard, to.as_deref(), user.as_deref(), &mut |line| {
                // See `say`.
                let _ = writeln!(std::io::stderr(), "{line}");
            });
            match asked {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            }
        }
        Command::Schema => say((shardway::shard_map::cli::json_schema(), 0)),
        Command::Explain { map, database, sql } => match server::offline::explain(&map, database.as_deref(), &sql) {
            Ok(text) => say((text, 0)),
            Err(error) => fail(&error),
        },
        Command::Demo(options) => {
            server::log::start_for_demo();
            asynchronous(demo::demo(options, server::offline::serve_beside))
        }
        Command::DevCluster(options) => asynchronous(async {
            match dev::dev_cluster(options).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string()),
            }
        }),
    }
}

fn shared_map(command: MapCommand) -> ExitCode {
    let told = match command {
        MapCommand::Push { file, map, from, wait } => {
            let pushed = server::fleet::push(&file, &map, from, Duration::from_secs(wait), &mut |line| {
                // See `say`.
                let _ = writeln!(std::io::stdout(), "{line}");
            });
            pushed.map(|()| String::new())
        }
        MapCommand::Pull { map, version } => server::fleet::pull(&map, version),
        MapCommand::History { map } => server::fleet::history(&map),
    };
    match told {
        Ok(text) => say((text, 0)),
        Err(error) => fail(&error),
    }
}

fn asynchronous(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&error.to_string()),
    }
}

fn say((text, code): (String, u8)) -> ExitCode {
    // A closed pipe (`shardway schema | head`) is nobody's mistake.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(code)
}

fn fail(error: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "shardway: {error}");
    ExitCode::FAILURE
}
