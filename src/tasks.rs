//! The only place that starts tasks.

use std::future::Future;

use tokio::task::JoinHandle;

/// Starts a task on this thread's runtime; it may hold `Rc`s. Needs a `LocalRuntime` or `LocalSet` around it.
///
/// The name goes to the log when the task's level is traced.
#[expect(clippy::disallowed_methods, reason = "this is where tasks start")]
pub fn local<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tracing::trace!(task = name, "started");
    tokio::task::spawn_local(future)
}

/// Starts a task that may move between threads.
#[expect(clippy::disallowed_methods, reason = "this is where tasks start")]
pub fn shared<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tracing::trace!(task = name, "started");
    tokio::spawn(future)
}
