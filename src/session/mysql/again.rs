//! What is asked again: a read whose server was lost before the client was sent anything of its answer.
//!
//! Only what is proven to have no effects is (what a replica may serve), outside of a transaction. A write never is.

use crate::exec::mysql::client::Mark;
use crate::session::again::Tries;
use crate::session::mysql::Session;

/// What is known of the command at hand.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// A proven read was to be done for it.
    reads: bool,
    /// Something else was.
    goes_beyond: bool,
    /// What the client had been told, and how often it had been sent something, when it began.
    before: Option<(Mark, u64)>,
    lost: bool,
    tries: Tries,
}

impl Session {
    /// A command begins, for the first time or anew.
    pub(super) fn begin_request(&mut self) {
        let before = Some((self.client.mark(), self.client.sends()));
        let request = &mut self.request;
        (request.reads, request.goes_beyond, request.before, request.lost) = (false, false, before, false);
    }

    /// A proven read is to be done.
    pub(super) fn note_read(&mut self) {
        self.request.reads = true;
    }

    /// Something else is.
    pub(super) fn note_effect(&mut self) {
        self.request.goes_beyond = true;
    }

    /// A server was lost that worked on the command, outside of a transaction.
    pub(super) fn note_lost(&mut self) {
        let unsent = self.request.before.is_some_and(|(_, sends)| sends == self.client.sends());
        let Some(wait) = self.used.as_ref().map(|it| it.access.service.database.failover.wait) else { return };
        let request = &mut self.request;
        if unsent && request.reads && !request.goes_beyond && !self.held.was_struck() && request.tries.may_go_on(wait) {
            request.lost = true;
        }
    }

    /// Whether the client is to hear nothing of what has come of the command, for it is done again.
    pub(super) fn is_asked_again(&self) -> bool {
        self.request.lost
            && !self.request.goes_beyond
            && !self.ends
            && !self.ticket.is_over()
            && self.request.before.is_some_and(|(_, sends)| sends == self.client.sends())
    }

    /// Whether a server was lost that worked on the command.
    pub(super) fn has_lost(&self) -> bool {
        self.request.lost
    }

    /// Waits until the command is to be done again. False: it is over.
    pub(super) async fn goes_again(&mut self) -> bool {
        if !self.is_asked_again() {
            self.request = Request::default();
            return false;
        }
        if let Some((mark, _)) = self.request.before {
            self.client.rewind(mark);
        }
        self.request.tries.rest().await;
        true
    }
}
