//! The memory that a burst of messages needs while it is answered, used by one session after another.
//!
//! The future of a burst is large next to an idle session. Made anew for each it would be allocated, copied and freed
//! for every statement; kept by each session it would be most of what an idle client costs. So a worker keeps a few.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::exec::client::Message;
use crate::session::End;
use crate::session::Session;

/// Engines of one worker that no session uses now.
#[derive(Debug, Default)]
pub struct Engines(RefCell<Vec<Engine>>);

/// How many are kept for later.
const KEPT: usize = 64;

/// A future that answers bursts, of whatever session.
struct Engine {
    desk: Rc<Desk>,
    work: Pin<Box<dyn Future<Output = ()>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A session whose burst is answered, and whether it goes on.
type Done = (Box<Session>, Result<(), End>);

/// Where work is handed over to an engine, and back.
#[derive(Default)]
struct Desk {
    job: Cell<Option<(Box<Session>, Message)>>,
    done: Cell<Option<Done>>,
}

impl Engines {
    /// Has the session answer everything that has arrived, beginning with `first`.
    ///
    /// Dropped in the middle, it takes the session with it.
    pub(super) async fn burst(&self, session: Box<Session>, first: Message) -> Done {
        let kept = self.0.borrow_mut().pop();
        let mut engine = kept.unwrap_or_else(Engine::new);
        engine.desk.job.set(Some((session, first)));
        let done = poll_fn(|cx| {
            // It never ends: it waits for the next job.
            let _ = engine.work.as_mut().poll(cx);
            engine.desk.done.take().map_or(Poll::Pending, Poll::Ready)
        });
        let done = done.await;
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            kept.push(engine);
        }
        done
    }
}

impl Engine {
    fn new() -> Self {
        let desk = Rc::new(Desk::default());
        let its = Rc::clone(&desk);
        let work = Box::pin(async move {
            loop {
                let (mut session, first) = poll_fn(|_| its.job.take().map_or(Poll::Pending, Poll::Ready)).await;
                let result = session.burst(first).await;
                its.done.set(Some((session, result)));
            }
        });
        Self { desk, work }
    }
}
