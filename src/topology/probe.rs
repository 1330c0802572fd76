//! One node's monitor: asks, and hands what it hears to the shard. All it decides is when to ask.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;

use super::control::ControlError;
use super::control::Purpose;
use super::engine::Line;
use super::health::Heard;
use super::monitor::Advice;
use super::monitor::Event;
use super::monitor::Identity;
use super::monitor::Report;
use super::pace;
use super::shard::Shard;
use crate::clock;
use crate::clock::Tick;

/// Watches node `place` for as long as somebody else holds the shard.
pub(super) async fn watch(shard: Weak<Shard>, place: usize, wake: Arc<Notify>) {
    let fault = Fault::from_environment();
    let mut failures = 0;
    while let Some(it) = interested(&shard) {
        let began = clock::now();
        match open(&it, place).await {
            Ok((connection, identity)) => {
                if it.observe(place, Event::Connected(identity, LIVES.fetch_add(1, Ordering::Relaxed))) == Advice::GoOn
                {
                    drop(it);
                    failures = if follow(&shard, place, &wake, connection, fault).await { 0 } else { failures + 1 };
                }
                if failures > 0 {
                    sleep(pace::retry(failures)).await;
                }
            }
            Err(error) => {
                let _ = it.observe(place, Event::Failed(error.heard, began, error.text));
                drop(it);
                failures += 1;
                sleep(pace::retry(failures)).await;
            }
        }
    }
}

/// The shard, while anybody wants to know of it.
fn interested(shard: &Weak<Shard>) -> Option<Arc<Shard>> {
    shard.upgrade().filter(|it| !it.has_ended())
}

async fn open(shard: &Shard, place: usize) -> Result<(Line, Identity), ControlError> {
    let state = shard.nodes().get(place).ok_or_else(|| ControlError {
        heard: Heard::Failure,
        text: "no such node".to_owned(),
        sqlstate: None,
    })?;
    let mut connection = Line::open(shard.control(), state.node(), Purpose::Monitor).await?;
    let identity = within(ANSWER_MAX, connection.identity()).await?;
    Ok((connection, identity))
}

/// Probes until the connection is lost or nobody is interested any more. Returns whether it was ever answered.
async fn follow(shard: &Weak<Shard>, place: usize, wake: &Notify, mut connection: Line, fault: Fault) -> bool {
    let mut before = None;
    let mut answered = false;
    loop {
        let asked = clock::now();
        let answer = ask(shard, place, &mut connection, asked, fault).await;
        let Some(it) = interested(shard) else { return answered };
        let report = match answer {
            Ok(report) => report,
            Err(error) => {
                let _ = it.observe(place, Event::Failed(Heard::Loss, clock::now(), error.text));
                return answered;
            }
        };
        let position = report.sampled.clone().or_else(|| report.replayed.clone());
        if it.observe(place, Event::Answered(report)) == Advice::Reconnect {
            return answered;
        }
        answered = true;
        let moved = position != before;
        before = position;
        rest(it, place, wake, asked, moved).await;
    }
}

/// Sends one probe and waits for its answer, however slow, telling of the silence meanwhile.
async fn ask(
    shard: &Weak<Shard>,
    place: usize,
    connection: &mut Line,
    asked: Tick,
    fault: Fault,
) -> Result<Report, ControlError> {
    let answer = connection.report(asked, fault);
    tokio::pin!(answer);
    loop {
        match timeout(SILENCE_STEP, answer.as_mut()).await {
            Ok(report) => {
                let mut report = report?;
                if fault == Fault::ClockAfter && !report.in_recovery {
                    // As if the answer had been long on its way: what lies between is what the mistake lets through.
                    sleep(FAULT_DELAY).await;
                    report.asked = clock::now();
                }
                return Ok(report);
            }
            Err(_) => {
                let text = || format!("no answer for {:?}", clock::now().since(asked));
                let gone = || ControlError { heard: Heard::Failure, text: text(), sqlstate: None };
                if clock::now().since(asked) >= ANSWER_MAX {
                    return Err(gone());
                }
                let it = interested(shard).ok_or_else(gone)?;
                let _ = it.observe(place, Event::Silent(asked));
            }
        }
    }
}

/// Waits until it is time for the next probe; a wake may bring it forward.
async fn rest(shard: Arc<Shard>, place: usize, wake: &Notify, asked: Tick, moved: bool) {
    let mut situation = shard.situation(place, moved);
    let interest = Arc::downgrade(&shard);
    drop(shard);
    loop {
        let left = asked.plus(pace::gap(&situation)).since(clock::now());
        if left.is_zero() || timeout(left, wake.notified()).await.is_err() {
            return;
        }
        let Some(it) = interested(&interest) else { return };
        situation = it.situation(place, situation.writing);
    }
}

async fn within<T>(span: Duration, answer: impl Future<Output = Result<T, ControlError>>) -> Result<T, ControlError> {
    let late = || ControlError { heard: Heard::Failure, text: format!("no answer within {span:?}"), sqlstate: None };
    timeout(span, answer).await.unwrap_or_else(|_| Err(late()))
}

/// Mistakes that tests plant to see that they are found. Release builds have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Samples are made of the write position, which an asynchronous commit may be beyond.
    WritePosition,
    /// The moment of a sample is noted after the answer.
    ClockAfter,
    /// A replica is taken to have what it has received.
    ReceivedPosition,
}

impl Fault {
    fn from_environment() -> Self {
        if !cfg!(debug_assertions) {
            return Self::None;
        }
        match std::env::var("SHARDWAY_FAULT").as_deref() {
            Ok("write_position") => Self::WritePosition,
            Ok("clock_after") => Self::ClockAfter,
            Ok("received_position") => Self::ReceivedPosition,
            _ => Self::None,
        }
    }
}

/// Numbers for lives of servers, one for every monitor connection of this process.
static LIVES: AtomicU64 = AtomicU64::new(1);

/// After that a connection is given up; the node is down long before.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Of `Fault::ClockAfter` only.
const FAULT_DELAY: Duration = Duration::from_millis(10);
/// How often silence is told of.
const SILENCE_STEP: Duration = Duration::from_millis(250);
