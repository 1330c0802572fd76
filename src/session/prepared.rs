//! Prepared statements: a client's names, and the numbers by which servers know the texts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::plan::Known;
use crate::plan::Number;
use crate::plan::Parameter;
use crate::plan::Parameters;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::World;
use crate::wire::postgres::frontend::Bind;
use crate::wire::postgres::frontend::Format;

/// One statement that a client prepared.
#[derive(Debug)]
pub struct Prepared {
    /// Its text, or for SQL's PREPARE the body.
    pub text: Arc<str>,
    /// The parameter types that the client gave; 0: left to the server.
    pub types: Vec<u32>,
    /// For SQL's PREPARE: the types as written, with parentheses, or nothing.
    pub written_types: Option<Arc<str>>,
    /// What servers know it by.
    pub number: Arc<Numbered>,
    /// The world that it was last compiled in, and the outcome. `None` inside: an empty statement.
    pub compiled: RefCell<(u32, Option<Rc<Planned>>)>,
    /// Where it takes numbers of sequences: what servers get instead, and the world that this was compiled in.
    pub drawn: RefCell<Option<(u32, Rc<Drawn>)>>,
    /// It is said once, and has no name on servers.
    pub passing: bool,
}

/// What servers get for a statement that takes numbers of sequences.
#[derive(Debug)]
pub struct Drawn {
    /// The statement, whose last parameters are the numbers.
    pub prepared: Rc<Prepared>,
    /// The numbers.
    pub numbers: Vec<Number>,
    /// How many parameters are the client's.
    pub given: usize,
}

impl Prepared {
    /// Where it goes with the values of a Bind.
    pub(super) fn plan(&self, planned: &Planned, bind: &Bind<'_>, world: &World) -> Result<Plan, ClientError> {
        self.plan_knowing(planned, bind, world, &Known::default())
    }

    /// The same with what directories have said.
    pub(super) fn plan_knowing(
        &self,
        planned: &Planned,
        bind: &Bind<'_>,
        world: &World,
        known: &Known,
    ) -> Result<Plan, ClientError> {
        let values: SmallVec<[Parameter<'_>; 8]> = bind
            .values()
            .enumerate()
            .map(|(at, bytes)| Parameter { binary: bind.formats.at(at) == Format::Binary, bytes })
            .collect();
        planned.plan_knowing(&self.text, Some(&Parameters { types: &self.types, values: &values }), world, known)
    }
}

/// The identity of a text with its types on servers.
#[derive(Debug)]
pub struct Numbered {
    /// Never 0, never reused.
    pub number: u64,
}

type Key = (Arc<str>, Vec<u32>, Option<Arc<str>>, u64, Arc<str>);

/// Which texts have which numbers: the same text and types of any session share one.
#[derive(Debug, Default)]
pub struct Registry {
    next: AtomicU64,
    known: Mutex<HashMap<Key, Arc<Numbered>>>,
}

/// Texts that are remembered while no session uses them.
const KNOWN_MAX: usize = 20_000;

impl Registry {
    /// The number for a text, prepared in that world: after DDL, or under another search_path, the same text is another
    /// statement, whose columns may be others.
    pub fn number(&self, text: &Arc<str>, types: &[u32], written: Option<&Arc<str>>, world: &World) -> Arc<Numbered> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.retain(|_, numbered| Arc::strong_count(numbered) > 1);
        }
        let path = Arc::clone(&world.view.search_path);
        let key = (Arc::clone(text), types.to_vec(), written.cloned(), world.schema.digest, path);
        Arc::clone(known.entry(key).or_insert_with(|| self.fresh()))
    }

    /// A number that nothing else has.
    pub fn fresh(&self) -> Arc<Numbered> {
        Arc::new(Numbered { number: self.next.fetch_add(1, Ordering::Relaxed) + 1 })
    }
}
