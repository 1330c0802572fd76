//! Pauses shards: what begins waits, and what has begun comes to its end.

use std::time::Duration;

use tokio::time::interval;

use super::Topology;
use super::events::Kind;
use super::queue::Hold;
use super::queue::Holder;
use super::queue::Reads;
use crate::clock;
use crate::clock::Tick;
use crate::ident::ShardId;

/// Why shards are not paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpaused {
    /// Another pause is in force there.
    Held(ShardId, Holder),
    /// So many connections were in use there still when time was up.
    Busy(Vec<(ShardId, u32)>),
}

/// How often it is looked whether everything has come to its end.
const LOOK: Duration = Duration::from_millis(5);

impl Topology {
    /// Holds back what begins on these shards, and waits until nothing of what had begun goes on there. At the deadline
    /// everything goes on as if nothing had been. So it does when this is dropped.
    ///
    /// # Errors
    /// [`Unpaused`].
    pub async fn pause(
        &self,
        shards: &[ShardId],
        reads: Reads,
        holder: Holder,
        deadline: Tick,
    ) -> Result<(), Unpaused> {
        let mut holding = Holding { topology: self, shards: Vec::new(), holder };
        for shard in shards {
            let held = self.queue(*shard).set_hold(Hold::Draining(reads), holder);
            held.map_err(|other| Unpaused::Held(*shard, other))?;
            holding.shards.push(*shard);
        }
        let half = clock::now().plus(deadline.since(clock::now()) / 2);
        let mut tick = interval(LOOK);
        loop {
            tick.tick().await;
            let is_quiet = || shards.iter().all(|it| self.in_use(*it, reads) == 0);
            if is_quiet() {
                self.hold_all(shards, Hold::Shut(reads), holder);
                // Whoever came between the look and that is counted by now, or held back.
                if is_quiet() {
                    holding.shards.clear();
                    for shard in shards {
                        self.events(*shard).note(Kind::Paused, None, format!("by {}", holder.name()));
                    }
                    return Ok(());
                }
                self.hold_all(shards, Hold::Draining(reads), holder);
            }
            let now = clock::now();
            if now >= deadline {
                let busy = shards.iter().map(|it| (*it, self.in_use(*it, reads))).filter(|(_, count)| *count > 0);
                return Err(Unpaused::Busy(busy.collect()));
            }
            if now >= half && shards.len() == 1 {
                // What goes on elsewhere keeps joining: the rest of the time it waits, too.
                self.hold_all(shards, Hold::Shut(reads), holder);
            }
        }
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// Somebody else's is in force there.
    pub fn resume(&self, shard: ShardId, holder: Holder) -> Result<(), Holder> {
        let was = self.queue(shard).holder();
        self.queue(shard).set_hold(Hold::Open, holder)?;
        if was.is_some() {
            self.events(shard).note(Kind::Resumed, None, format!("it was held back by {}", holder.name()));
        }
        Ok(())
    }

    fn hold_all(&self, shards: &[ShardId], hold: Hold, holder: Holder) {
        for shard in shards {
            // It was this holder's before.
            let _ = self.queue(*shard).set_hold(hold, holder);
        }
    }

    /// How many connections are in use that a pause waits for.
    fn in_use(&self, shard: ShardId, reads: Reads) -> u32 {
        match reads {
            Reads::Held => self.shard(shard).nodes().iter().map(|it| it.in_use()).sum(),
            Reads::GoOn => self.primary(shard).map_or(0, |it| self.node(it).in_use()),
        }
    }
}

/// Lets go what is not paused yet when it is dropped.
struct Holding<'a> {
    topology: &'a Topology,
    shards: Vec<ShardId>,
    holder: Holder,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.topology.hold_all(&self.shards, Hold::Open, self.holder);
    }
}
