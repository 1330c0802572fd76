//! A bare byte forwarder: one thread, one server connection per client, nothing parsed. `make bench` measures it as
//! the floor under every proxy: what is slower than this is the proxy's own doing.
//!
//! Usage: `forwarder LISTEN SERVER`, both as `address:port`.

use std::env;
use std::io;

use shardway::tasks;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// As large as what the proxy reads at once.
const BUFFER: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(listen), Some(server)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: forwarder LISTEN SERVER"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(&listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            tasks::local("forward", forward(client, server.clone()));
        }
    })
}

async fn forward(mut client: TcpStream, server: String) {
    let outcome: io::Result<()> = async {
        let mut server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await.map(drop)
    }
    .await;
    // A client or server that hangs up ends its own pair only.
    drop(outcome);
}
