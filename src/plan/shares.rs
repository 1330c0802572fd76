//! An INSERT of MySQL whose rows belong to several shards: what each of them is told, cut from the client's own text.

use crate::error::ClientError;
use crate::plan::Planned;
use crate::plan::Slot;
use crate::plan::World;
use crate::plan::inserted::Given;
use crate::plan::inserted::Inserted;

/// Some of an INSERT's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The statement with these rows alone.
    pub text: String,
    /// Its parameters, in order, by the client's numbers.
    pub parameters: Vec<Slot>,
    /// The rows, as the client counts them from 0.
    pub rows: Vec<usize>,
}

impl Planned {
    /// What is told of an INSERT for each of these groups of rows.
    ///
    /// # Errors
    /// Its rows cannot be told apart.
    pub fn chunks(&self, text: &str, groups: Vec<Vec<usize>>, world: &World) -> Result<Vec<Chunk>, ClientError> {
        let cut = Inserted::of(text, self.range.clone(), world.mode()).ok_or_else(untold)?;
        let Given::Values(rows) = &cut.rows else { return Err(untold()) };
        // Up to VALUES, with the columns that it means.
        let end = cut.bytes(&(cut.body..cut.body + 1)).end;
        let mut head = text.get(self.range.start..end).unwrap_or_default().to_owned();
        if let Some((at, list)) = &self.template.splice_columns {
            let (before, behind) = head.split_at_checked(*at).ok_or_else(untold)?;
            head = format!("{before}{list}{behind}");
        }
        let behind = cut.tail..cut.words.lexemes.len();
        let tail = text.get(cut.bytes(&behind)).unwrap_or_default();
        // The first parameter of each row, and of what stands behind them.
        let mut first = Vec::with_capacity(rows.len() + 1);
        let mut count = cut.parameters_in(&(0..cut.body));
        let before = count;
        for row in rows {
            first.push(count);
            count += cut.parameters_in(row);
        }
        first.push(count);
        let last = count + cut.parameters_in(&behind);
        let slot = |at: usize| Slot::Client(u16::try_from(at).unwrap_or(u16::MAX));
        let mut chunks = Vec::with_capacity(groups.len());
        for group in groups {
            let mut chunk = Chunk { text: head.clone(), parameters: (0..before).map(slot).collect(), rows: Vec::new() };
            for (place, row) in group.iter().enumerate() {
                let bytes = cut.bytes(rows.get(*row).ok_or_else(untold)?);
                chunk.text.push_str(if place == 0 { " " } else { ", " });
                chunk.text.push_str(text.get(bytes).unwrap_or_default());
                let (from, to) = first.get(*row).zip(first.get(row + 1)).ok_or_else(untold)?;
                chunk.parameters.extend((*from..*to).map(slot));
            }
            chunk.text.push(' ');
            chunk.text.push_str(tail);
            chunk.parameters.extend((count..last).map(slot));
            chunk.rows = group;
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

fn untold() -> ClientError {
    ClientError::unsupported(
        "this INSERT of rows of several shards is not supported: its rows could not be told apart",
        "Insert rows of one shard key at a time.",
    )
}
