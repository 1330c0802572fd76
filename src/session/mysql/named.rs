//! PREPARE, EXECUTE and DEALLOCATE in SQL: texts by name, and values of user variables in the place of their parameters.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::error::ClientError;
use crate::error::Code;
use crate::plan::mysql_command::Prepared;
use crate::plan::mysql_given::with_values;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::assign::variable;
use crate::session::mysql::prepared::prepares_without_tables;
use crate::session::mysql::say;
use crate::session::mysql::text::Saying;
use crate::session::mysql::text::spliced;
use crate::wire::mysql::result::Done;

/// The texts that one session has prepared, by name in lower case.
pub(super) type Named = HashMap<String, Arc<str>, RandomState>;

/// How many there may be; as `max_prepared_stmt_count` of a server.
const NAMED_MAX: usize = 16_382;

impl Session {
    /// PREPARE.
    pub(super) async fn prepare_named(&mut self, name: &str, from: &Prepared, more: bool) -> Result<(), Trouble> {
        let text = self.prepared_text(from);
        let key = name.to_lowercase();
        // One of that name is gone, whatever becomes of this one.
        self.named.remove(&key);
        if self.named.len() >= NAMED_MAX {
            return Err(ClientError::new(
                Code::TooLarge,
                format!("a session has {NAMED_MAX} prepared statements"),
                "DEALLOCATE those that are not needed any more.",
            )
            .into());
        }
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(&text, &world);
        let leaves_warnings = match compiled {
            Ok(statements) if statements.len() > 1 => return Box::pin(self.refuse_several(&text)).await,
            Ok(statements) => statements.first().is_some_and(prepares_without_tables),
            Err(error) => return Err(Box::pin(self.verified(error, &text)).await),
        };
        // A server says what is wrong with it.
        let mut link = self.any_link().await?;
        let settings = Arc::clone(&self.state.settings);
        let prepared = async {
            match link.take_up(&settings).await? {
                Ok(()) => self.prepare_on(&mut link, &text).await.map(|it| it.map(drop)),
                Err(failure) => Ok(Err(failure)),
            }
        };
        let told = match prepared.await {
            Ok(told) => told,
            Err(broken) => return Err(self.lost_all(broken, &link).await),
        };
        self.keep(link);
        told?;
        self.named.insert(key, text);
        if !leaves_warnings {
            self.warnings.clear();
        }
        self.last.done();
        let status = self.face(more).status(self.usual_status());
        self.client.note_state();
        self.client.put_done(&Done { status, info: b"Statement prepared".to_vec(), ..Done::default() });
        Ok(())
    }

    /// EXECUTE.
    pub(super) async fn execute_named(&mut self, name: &str, using: &[Arc<str>], more: bool) -> Result<(), Trouble> {
        let text = self.named.get(&name.to_lowercase()).cloned().ok_or_else(|| say::no_named(name, "EXECUTE"))?;
        self.execute_text(&text, using, more).await
    }

    /// EXECUTE IMMEDIATE.
    pub(super) async fn execute_now(&mut self, from: &Prepared, using: &[Arc<str>], more: bool) -> Result<(), Trouble> {
        let text = self.prepared_text(from);
        self.execute_text(&text, using, more).await
    }

    fn prepared_text(&self, from: &Prepared) -> Arc<str> {
        match from {
            Prepared::Text(text) => Arc::clone(text),
            Prepared::Variable(name) => {
                value_of(self.state.settings.value(&variable(name)).map(|it| &**it)).text.into()
            }
        }
    }

    async fn execute_text(&mut self, text: &str, using: &[Arc<str>], more: bool) -> Result<(), Trouble> {
        let values: Vec<String> = using
            .iter()
            .map(|name| value_of(self.state.settings.value(&variable(name)).map(|it| &**it)).written)
            .collect();
        let world = self.world()?;
        let told = with_values(text, world.mode(), &values)?.ok_or_else(|| say::wrong_arguments("EXECUTE"))?;
        let compiled = self.worker.planner.borrow_mut().compile(&told, &world);
        let statements = match compiled {
            Ok(statements) => statements,
            Err(error) => return Err(Box::pin(self.verified(error, &told)).await),
        };
        let [planned] = statements.as_slice() else { return Box::pin(self.refuse_several(&told)).await };
        let said = spliced(&told, planned);
        Box::pin(self.statement(&told, Saying::Text(&said), planned, None, &world, more)).await
    }

    /// DEALLOCATE PREPARE.
    pub(super) fn deallocate_named(&mut self, name: &str) -> Result<(), Trouble> {
        let gone = self.named.remove(&name.to_lowercase());
        gone.map(drop).ok_or_else(|| say::no_named(name, "DEALLOCATE PREPARE").into())
    }
}

/// A variable's value.
struct Value {
    /// As a parameter of that value would be written.
    written: String,
    /// As text.
    text: String,
}

/// The value of a variable as it is kept among the settings.
fn value_of(kept: Option<&str>) -> Value {
    let null = || Value { written: "NULL".to_owned(), text: "NULL".to_owned() };
    let Some(kept) = kept else { return null() };
    if kept.starts_with("CAST(NULL") || kept.starts_with("CONVERT(NULL") || kept.eq_ignore_ascii_case("null") {
        return null();
    }
    if let Some(number) = kept.strip_prefix("CAST(").and_then(|it| it.strip_suffix(" AS UNSIGNED)")) {
        return Value { written: number.to_owned(), text: number.to_owned() };
    }
    let string = kept.strip_prefix('_').and_then(|it| it.split_once(" x'")).and_then(|(set, behind)| {
        let (hex, _) = behind.split_once('\'')?;
        Some((set, hex))
    });
    let Some((set, hex)) = string else { return Value { written: kept.to_owned(), text: kept.to_owned() } };
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16).unwrap_or_default();
    let bytes: Vec<u8> = hex.as_bytes().chunks(2).map(byte).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // Without its collation: a parameter gives way to a column's.
    let plain = set.starts_with("utf8") && !text.contains(['\\', '\'', '\0', char::REPLACEMENT_CHARACTER]);
    let written = if plain { format!("'{text}'") } else { format!("_{set} x'{hex}'") };
    Value { written, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_written_as_parameters_are() {
        for (kept, written, text) in [
            (None, "NULL", "NULL"),
            (Some("CAST(NULL AS SIGNED)"), "NULL", "NULL"),
            (Some("5"), "5", "5"),
            (Some("CAST(18446744073709551615 AS UNSIGNED)"), "18446744073709551615", "18446744073709551615"),
            (Some("_utf8mb4 x'6162' COLLATE utf8mb4_bin"), "'ab'", "ab"),
            (Some("_utf8mb4 x'6127' COLLATE utf8mb4_bin"), "_utf8mb4 x'6127'", "a'"),
            (Some("_latin1 x'41' COLLATE latin1_bin"), "_latin1 x'41'", "A"),
            (Some("_binary x'00FF'"), "_binary x'00FF'", "\0\u{fffd}"),
        ] {
            let value = value_of(kept);
            assert_eq!((&*value.written, &*value.text), (written, text));
        }
    }
}
