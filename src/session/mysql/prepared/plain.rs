//! Executions that need nothing but the statement and their values, without taking memory for a few.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::Settings;
use crate::plan::Parameter;
use crate::plan::Planned;
use crate::session::mysql::prepared::EXECUTE;
use crate::session::mysql::prepared::Shown;
use crate::session::mysql::prepared::Statements;
use crate::session::mysql::prepared::text_or_other;
use crate::wire::mysql::command::Execute;

/// One execution of a statement that has been understood before.
#[derive(Debug)]
pub(in crate::session::mysql) struct Plain {
    pub(in crate::session::mysql) text: Arc<str>,
    pub(in crate::session::mysql) planned: Rc<Planned>,
    /// What connections know it by.
    pub(in crate::session::mysql) key: Arc<str>,
    texts: SmallVec<[Option<Shown>; 4]>,
    /// The command but for the server's number of the statement.
    payload: SmallVec<[u8; 128]>,
}

/// Where the number stands in the command.
const NUMBER: std::ops::Range<usize> = 1..5;

impl Statements {
    /// An execution, if nothing was sent before it and the statement was last understood by what holds now.
    pub(in crate::session::mysql) fn plain(
        &mut self,
        execute: &Execute<'_>,
        world: u32,
        settings: &Arc<Settings>,
    ) -> Option<Plain> {
        let statement = self.all.get_mut(&execute.statement)?;
        // An execution closes the cursor of the one before.
        if execute.flags != 0 || statement.cursor.is_some() || statement.spoiled || !statement.long.is_empty() {
            return None;
        }
        let compiled = statement.compiled.as_ref()?;
        if compiled.world != world || !Arc::ptr_eq(&compiled.settings, settings) {
            return None;
        }
        let whole = execute.whole(statement.parameters, statement.types.as_deref())?;
        if whole.told && statement.types.as_deref() != Some(&whole.types) {
            statement.types = Some(whole.types.to_vec());
        }
        let texts = whole.types.iter().zip(&whole.values).map(|(it, value)| Some(text_or_other(*it, (*value)?)));
        let mut payload = SmallVec::from_slice(&[EXECUTE, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        if !whole.types.is_empty() {
            payload.extend_from_slice(whole.nulls);
            payload.push(1);
            for it in &whole.types {
                payload.extend_from_slice(&[it.kind, u8::from(it.unsigned) << 7]);
            }
            payload.extend_from_slice(whole.packed);
        }
        Some(Plain {
            text: Arc::clone(&statement.text),
            planned: Rc::clone(&compiled.planned),
            key: Arc::clone(&compiled.key),
            texts: texts.collect(),
            payload,
        })
    }
}

impl Plain {
    /// What planning looks at: the numbers of types, and values.
    pub(in crate::session::mysql) fn parameters(&self) -> (SmallVec<[u32; 8]>, SmallVec<[Parameter<'_>; 8]>) {
        let oids = self.texts.iter().map(|it| it.as_ref().map_or(0, |(oid, _)| *oid)).collect();
        let values = self
            .texts
            .iter()
            .map(|it| Parameter { binary: false, bytes: it.as_ref().map(|(_, bytes)| bytes.as_slice()) })
            .collect();
        (oids, values)
    }

    /// The command to a server that knows the statement by that number.
    pub(in crate::session::mysql) fn payload(&mut self, number: u32) -> &[u8] {
        if let Some(place) = self.payload.get_mut(NUMBER) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        &self.payload
    }
}
