//! What SHOW WARNINGS shows: read from the server that has them, before another session gets its connection.

use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::put_text_row;

/// The warnings of the latest statement that could have any.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// Rows as servers send them: level, number, message.
    rows: Vec<Vec<u8>>,
}

/// What the warnings of one server may come to, in bytes. Servers keep `max_error_count` of them, usually 64.
const WARNINGS_MAX: usize = 1 << 20;

impl Warnings {
    /// An error of the proxy's own is the only one.
    pub(super) fn of_failure(&mut self, failure: &Failure) {
        let mut row = Vec::new();
        let cells = ["Error".to_owned(), failure.number.to_string(), failure.message.clone()];
        put_text_row(&mut row, cells.iter().map(|it| Some(it.as_bytes())));
        self.rows = vec![row];
    }

    /// Forgets those of the statement before.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// Reads those of a server that has some.
    pub(super) async fn read(&mut self, link: &mut Link) -> Result<(), Broken> {
        link.say_query("SHOW WARNINGS").await?;
        if let Ok(collected) = relay::collect(link, WARNINGS_MAX).await? {
            self.rows.extend(collected.rows);
        }
        Ok(())
    }
}

impl Session {
    /// SHOW WARNINGS.
    pub(super) async fn show_warnings(&mut self, more: bool) -> Result<(), Trouble> {
        // What its columns are is the server's to say; its own warnings may be another session's.
        let mut link = self.any_link().await?;
        let collected = async {
            link.say_query("SHOW WARNINGS LIMIT 0").await?;
            relay::collect(&mut link, WARNINGS_MAX).await
        };
        let collected = match collected.await {
            Ok(Ok(collected)) => collected,
            Ok(Err(failure)) => {
                self.keep(link);
                return Err(failure.into());
            }
            Err(broken) => return Err(self.lost_all(broken, &link).await),
        };
        self.keep(link);
        let flags = self.face(more).status(self.usual_status());
        self.client.put_columns(&collected.columns, flags);
        for row in &self.warnings.rows {
            self.client.put(row);
        }
        self.client.end_rows(0, flags);
        Ok(())
    }
}
