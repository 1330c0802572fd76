//! Waits for a shard's primary, in the queue that it has (`topology::queue`), whichever engine its servers have.

use std::task::Poll;
use std::time::Duration;

use crate::clock;
use crate::clock::Tick;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::Service;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::topology::Entry;
use crate::topology::Hold;
use crate::topology::Place;

/// Why there is no link.
pub(super) struct Unlinked {
    pub(super) error: ClientError,
    /// Whether it may be otherwise in a moment.
    pub(super) passes: bool,
}

/// How long it is until a server that could not be reached is tried again, at first and at most.
pub(crate) const AGAIN: Duration = Duration::from_millis(20);
pub(crate) const AGAIN_MAX: Duration = Duration::from_millis(500);

/// While a server says nothing, how often it is looked whether it is the primary still.
const LOOK: Duration = Duration::from_millis(100);

/// What `link` gives for the shard's primary, when it is there and it is this one's turn. Nothing has been said to a server
/// when it fails. Cancel-safe: gives up the place in the queue.
pub(super) async fn at_primary<L>(
    service: &Service,
    shard: ShardId,
    entry: Entry,
    link: impl AsyncFn(NodeId) -> Result<L, Unlinked>,
    give_back: impl Fn(L),
) -> Result<L, ClientError> {
    let (topology, failover) = (&service.topology, &service.database.failover);
    let deadline = clock::now().plus(failover.wait);
    let queue = topology.queue(shard);
    let enter = || queue.enter(entry, failover.queue_max).map_err(|full| crowded(service, shard, full.0));
    let mut place: Option<Place> = None;
    let mut last: Option<ClientError> = None;
    let mut pause = AGAIN;
    loop {
        if place.is_none() && !queue.lets(entry) {
            place = Some(enter()?);
        }
        if let Some(place) = &place
            && !place.turn(deadline).await
        {
            return Err(last.unwrap_or_else(|| without(service, shard)));
        }
        let Some(node) = topology.primary(shard) else {
            match place {
                None => place = Some(enter()?),
                // Looked for again in its turn, for it may have been held back meanwhile.
                Some(_) if topology.wait_primary(shard, deadline).await.is_some() => {}
                Some(_) => return Err(without(service, shard)),
            }
            continue;
        };
        let mut linking = std::pin::pin!(while_primary(service, node, &link));
        // Asked for before the next may ask: the pool gives its connections in the order of those who wait.
        let first = std::future::poll_fn(|cx| Poll::Ready(linking.as_mut().poll(cx))).await;
        // Who comes behind need not wait for this one's connection, where it is known that there is anybody to connect to.
        if let Some(place) = &mut place
            && !queue.is_doubtful()
        {
            place.leave();
        }
        let linked = match first {
            Poll::Ready(linked) => linked,
            Poll::Pending => linking.await,
        };
        match linked {
            Ok(link) if !service.still_primary(node) => give_back(link),
            Ok(link) => {
                queue.trust();
                // Counted now as what runs there: a pause has seen it, or is seen here.
                if !queue.holds(entry) {
                    return Ok(link);
                }
                give_back(link);
                match &mut place {
                    Some(place) => place.take_again(),
                    None => place = Some(enter()?),
                }
            }
            Err(Unlinked { error, passes: true }) => {
                queue.doubt();
                match &mut place {
                    Some(place) => place.take_again(),
                    None => place = Some(enter()?),
                }
                let left = deadline.since(clock::now());
                if left.is_zero() {
                    return Err(error);
                }
                last = Some(error);
                tokio::time::sleep(pause.min(left)).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
            Err(Unlinked { error, .. }) => {
                queue.trust();
                return Err(error);
            }
        }
    }
}

/// A link to that node, as long as it is the primary: one that says nothing must not hold up who waits for its successor.
pub(super) async fn while_primary<L>(
    service: &Service,
    node: NodeId,
    link: &impl AsyncFn(NodeId) -> Result<L, Unlinked>,
) -> Result<L, Unlinked> {
    let mut linking = std::pin::pin!(link(node));
    loop {
        if let Ok(linked) = tokio::time::timeout(LOOK, linking.as_mut()).await {
            return linked;
        }
        if service.topology.primary(node.shard) != Some(node) {
            return Err(Unlinked { error: without(service, node.shard), passes: true });
        }
    }
}

/// Waits until reads are not held back.
///
/// # Errors
/// They were for too long, or too many wait.
pub(super) async fn pass_reads(
    service: &Service,
    shard: ShardId,
    entry: Entry,
    deadline: Tick,
) -> Result<(), ClientError> {
    let queue = service.topology.queue(shard);
    if !queue.holds_reads(entry) {
        return Ok(());
    }
    let place =
        queue.enter(entry, service.database.failover.queue_max).map_err(|full| crowded(service, shard, full.0))?;
    if place.turn(deadline).await { Ok(()) } else { Err(without(service, shard)) }
}

/// Time is up.
fn without(service: &Service, shard: ShardId) -> ClientError {
    let name = &service.database.shard(shard).name;
    if service.topology.queue(shard).hold() != Hold::Open {
        return ClientError::new(
            Code::ShardUnavailable,
            format_args!("shard \"{name}\" is paused"),
            "An operator has paused it, or a switchover goes on: try again after RESUME.",
        );
    }
    service.no_primary(shard)
}

/// Too many wait.
fn crowded(service: &Service, shard: ShardId, waiting: usize) -> ClientError {
    let name = &service.database.shard(shard).name;
    ClientError::new(
        Code::ShardUnavailable,
        format_args!("{waiting} statements wait for shard \"{name}\" already"),
        "Try again when its primary is back. `failover.queue_max` in the shard map says how many may wait.",
    )
}
