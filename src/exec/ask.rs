//! Plain questions on single links, beside flights: what one server answers, or that it does not, says nothing of the
//! others.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use crate::backend::Piece;
use crate::exec::link::Link;
use crate::wire::postgres::backend::DataRow;

/// What a server answered to one Query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The last CommandComplete's tag.
    pub tag: Option<String>,
    /// The rows as text.
    pub rows: Vec<Vec<Option<String>>>,
    /// The ErrorResponse, whole.
    pub error: Option<Vec<u8>>,
    /// NoticeResponse and NotificationResponse messages, whole, in order.
    pub remarks: Vec<u8>,
    /// The SQLSTATE of each warning.
    pub warnings: Vec<String>,
}

impl Answer {
    /// Whether it is exactly this: the tag, no error, and no warning that it is less than it says.
    #[must_use]
    pub fn is(&self, tag: &str) -> bool {
        self.error.is_none() && self.tag.as_deref() == Some(tag) && self.warnings.is_empty()
    }

    /// One cell of the first row.
    #[must_use]
    pub fn cell(&self, place: usize) -> Option<&str> {
        self.rows.first()?.get(place)?.as_deref()
    }
}

/// Says Queries, behind a Sync where one is owed, and sends them.
///
/// # Errors
/// The connection is of no more use.
pub async fn tell(link: &mut Link, texts: &[&str]) -> io::Result<()> {
    if link.unsynced {
        link.say_sync();
    }
    for text in texts {
        link.say_query(text);
    }
    while !link.out.is_empty() {
        poll_fn(|cx| match link.poll_out(cx) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) if link.out.is_empty() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
        })
        .await?;
    }
    Ok(())
}

/// Takes in what the server owes; the answers to the last `count` Queries.
///
/// # Errors
/// The connection is of no more use: what it has answered until then is lost, too.
pub async fn hear(link: &mut Link, count: usize) -> io::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut answer = Answer::default();
    while link.due > 0 {
        let Some(piece) = link.connection.piece()? else {
            if link.connection.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        match piece {
            Piece::Rows(..) if link.connection.is_within_row() => return Err(io::ErrorKind::InvalidData.into()),
            Piece::Rows(range, _) => answer.rows.extend(rows(link.connection.bytes(range))),
            Piece::Message(kind, range) => {
                let message = link.connection.bytes(range);
                match kind {
                    b'C' => {
                        let tag = message.get(5..message.len() - 1).unwrap_or_default();
                        answer.tag = Some(String::from_utf8_lossy(tag).into_owned());
                    }
                    b'E' => answer.error = answer.error.take().or_else(|| Some(message.to_vec())),
                    b'N' | b'A' => {
                        if kind == b'N' {
                            let code = super::flight::fields(message).find(|(field, _)| *field == b'C');
                            let code = code.map(|(_, it)| String::from_utf8_lossy(it).into_owned());
                            // Class 01 and transaction states are warnings; 00000 is a notice.
                            answer.warnings.extend(code.filter(|it| !it.starts_with("00")));
                        }
                        answer.remarks.extend_from_slice(message);
                    }
                    b'Z' => {
                        link.status = message.get(5).copied().unwrap_or(b'I');
                        link.due -= 1;
                        answers.push(std::mem::take(&mut answer));
                    }
                    _ => {}
                }
            }
        }
    }
    link.connection.rest();
    let before = answers.len().saturating_sub(count);
    Ok(answers.split_off(before))
}

/// The cells of whole DataRow messages.
fn rows(mut bytes: &[u8]) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    while let Some(&[_, a, b, c, d]) = bytes.first_chunk::<5>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize + 1;
        let Some((message, rest)) = bytes.split_at_checked(length) else { break };
        bytes = rest;
        if let Ok(row) = DataRow::read(message.get(5..).unwrap_or_default()) {
            rows.push(row.cells().map(|it| it.map(|it| String::from_utf8_lossy(it).into_owned())).collect());
        }
    }
    rows
}
