//! What is asked again: a read whose server was lost before the client saw anything of its answer.
//!
//! Only what is proven to have no effects is (what a replica may serve), outside of a transaction. The client's own bytes are
//! kept until it has its answer, and put back before what it says next: so the read is planned and placed anew, on whichever
//! server may serve it by then. A write is never asked again.

use std::time::Duration;

use crate::clock;
use crate::clock::Tick;
use crate::exec::AGAIN;
use crate::exec::AGAIN_MAX;
use crate::exec::client::Message;
use crate::plan;
use crate::session::End;
use crate::session::Session;

/// What is kept at most, in bytes; what is longer is not asked again.
const KEPT_MAX: usize = 64 << 10;

/// What is known of the request at hand: one Query, or what comes up to one Sync.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// What the client has said of it. Empty: it cannot be asked again.
    said: Vec<u8>,
    /// Something else than proven reads was to be done for it.
    goes_beyond: bool,
    /// What the client had been sent, and what was gathered for it, when it began.
    before: (u64, usize),
    came: Came,
    tries: Tries,
}

/// What has come of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Came {
    /// Nothing to be asked again for.
    #[default]
    Well,
    /// Its server was lost.
    Lost,
    /// And that is what the client would hear.
    Refused,
}

/// How often it was asked again, and until when it may be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    until: Option<Tick>,
    pause: Duration,
}

impl Tries {
    /// Whether there is time for another; `wait` counts from the first loss.
    pub(super) fn may_go_on(&mut self, wait: Duration) -> bool {
        let now = clock::now();
        now < *self.until.get_or_insert_with(|| now.plus(wait))
    }

    /// Waits a little, but before the first: the topology may have to hear of it.
    pub(super) async fn rest(&mut self) {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        self.pause = (self.pause * 2).clamp(AGAIN, AGAIN_MAX);
    }
}

impl Session {
    /// A message begins a request, or belongs to the one at hand, and is answered by what needs several steps.
    pub(super) fn note_said(&mut self, message: &Message) {
        let begins = !self.transaction.is_open()
            && !self.skipping
            && !self.within_batch()
            && !self.batch.is_begun()
            && !self.batch_flown
            && self.state.pins.is_empty();
        if begins && matches!(message.kind, b'Q' | b'P' | b'B') {
            self.keep_said(message.whole.clone());
        } else if !self.request.said.is_empty() && matches!(message.kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'S') {
            let bytes = self.client.bytes(message.whole.clone());
            if self.request.said.len() + bytes.len() <= KEPT_MAX {
                self.request.said.extend_from_slice(bytes);
            } else {
                self.request.said.clear();
            }
        } else {
            self.request.said.clear();
        }
    }

    /// A message came that may be answered as most are.
    pub(super) fn begin_request(&mut self) {
        if !self.within_batch() {
            self.request.goes_beyond = false;
        }
    }

    /// Keeps what the client has said, for a request of which nothing has been done yet.
    pub(super) fn keep_said(&mut self, whole: std::ops::Range<usize>) {
        let request = &mut self.request;
        request.said.clear();
        let bytes = self.client.bytes(whole);
        if bytes.len() <= KEPT_MAX {
            if request.said.capacity() == 0 {
                request.said = self.worker.pools.outbox();
            }
            request.said.extend_from_slice(bytes);
        }
        request.goes_beyond = false;
        request.came = Came::Well;
        request.before = (self.client.sent(), self.client.mark());
    }

    /// Notes what is to be done for the request.
    pub(super) fn note_access(&mut self, access: plan::Access) {
        self.request.goes_beyond |= access != plan::Access::Read;
    }

    /// Something is done for the request that a server, or this session, does not do twice.
    pub(super) fn note_effect(&mut self) {
        self.request.goes_beyond = true;
    }

    /// Whether the request at hand has been a proven read so far.
    pub(super) fn only_reads(&self) -> bool {
        !self.request.goes_beyond
    }

    /// A server was lost that worked on the request.
    pub(super) fn note_lost(&mut self) {
        let request = &mut self.request;
        if !request.said.is_empty()
            && !request.goes_beyond
            && self.client.sent() == request.before.0
            && request.tries.may_go_on(self.access.service.database.failover.wait)
        {
            request.came = Came::Lost;
        }
    }

    /// The client is to hear of an error of the proxy's own.
    pub(super) fn note_refused(&mut self) {
        if self.request.came == Came::Lost {
            self.request.came = Came::Refused;
        }
    }

    /// Whether the client is to hear nothing of what has come of the request, for it is asked again.
    pub(super) fn is_asked_again(&self) -> bool {
        self.request.came == Came::Refused
            && !self.request.goes_beyond
            && !self.transaction.is_open()
            && self.client.sent() == self.request.before.0
    }

    /// The request has been answered, or is put back before what the client says next.
    pub(super) async fn end_request(&mut self) -> Result<(), End> {
        if self.request.came == Came::Well {
            self.forget_said();
            return Ok(());
        }
        if !self.is_asked_again() {
            self.forget_said();
            return self.client.flush().await.map_err(|_| End::Gone);
        }
        self.client.out().truncate(self.request.before.1);
        let said = std::mem::take(&mut self.request.said);
        self.client.put_back(&said);
        self.worker.pools.keep_outbox(said);
        self.request.came = Came::Well;
        self.request.tries.rest().await;
        Ok(())
    }

    /// The request is over.
    pub(super) fn forget_said(&mut self) {
        let said = std::mem::take(&mut self.request.said);
        if said.capacity() > 0 {
            self.worker.pools.keep_outbox(said);
        }
        self.request.came = Came::Well;
        self.request.tries = Tries::default();
    }
}
