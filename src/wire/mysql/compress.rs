//! The stream as both sides send it once compression was agreed on: pieces of it behind seven bytes (the piece's length, a
//! number that counts, its length before), deflated, or as they were where the length before is 0.

use std::io::Read;
use std::io::Write;

use flate2::Compression;
use flate2::bufread::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::frame::PACKET_MAX;
use super::frame::Violation;

/// Bytes before a piece.
pub const HEADER: usize = 7;
/// What is shorter is sent as it is; as servers have it.
const SHORT: usize = 50;

/// Appends pieces that hold `plain`, the first with the number `sequence`; the number that comes next.
pub fn put(out: &mut Vec<u8>, mut sequence: u8, plain: &[u8]) -> u8 {
    for piece in plain.chunks(PACKET_MAX) {
        let begin = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let deflated = piece.len() >= SHORT && deflate(out, piece) && out.len() - begin - HEADER < piece.len();
        if !deflated {
            out.truncate(begin + HEADER);
            out.extend_from_slice(piece);
        }
        let length = |it: usize| u32::try_from(it).unwrap_or(u32::MAX).to_le_bytes();
        let [a, b, c, _] = length(out.len() - begin - HEADER);
        let [d, e, f, _] = length(if deflated { piece.len() } else { 0 });
        if let Some(header) = out.get_mut(begin..begin + HEADER) {
            header.copy_from_slice(&[a, b, c, sequence, d, e, f]);
        }
        sequence = sequence.wrapping_add(1);
    }
    sequence
}

/// Deflates to the end of `out`. False: it could not.
fn deflate(out: &mut Vec<u8>, piece: &[u8]) -> bool {
    let mut encoder = ZlibEncoder::new(out, Compression::fast());
    encoder.write_all(piece).is_ok() && encoder.finish().is_ok()
}

/// Takes the first piece of `bytes`, and appends what it holds to `plain`: how many bytes were used, and its number. `None`:
/// more bytes are needed.
///
/// # Errors
/// It does not hold what its header says.
pub fn take(bytes: &[u8], plain: &mut Vec<u8>) -> Result<Option<(usize, u8)>, Violation> {
    let Some([a, b, c, sequence, d, e, f]) = bytes.first_chunk::<HEADER>().copied() else { return Ok(None) };
    let number = |a, b, c| usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    let (length, before) = (number(a, b, c), number(d, e, f));
    let Some(body) = bytes.get(HEADER..HEADER + length) else { return Ok(None) };
    if before == 0 {
        plain.extend_from_slice(body);
    } else {
        let wrong = |why| Violation::Body { packet: "compressed", why };
        // One byte more than it should be is enough to know.
        let limit = u64::try_from(before).unwrap_or(u64::MAX).saturating_add(1);
        let count = ZlibDecoder::new(body).take(limit).read_to_end(plain);
        if count.map_err(|_| wrong("cannot be inflated"))? != before {
            return Err(wrong("is of another length than it says"));
        }
    }
    Ok(Some((HEADER + length, sequence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_again() {
        let noise: Vec<u8> = (0..5000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        for plain in [vec![7; 3], vec![7; 5000], noise, vec![1; PACKET_MAX + 100]] {
            let mut out = Vec::new();
            let pieces = plain.len().div_ceil(PACKET_MAX);
            assert_eq!(usize::from(put(&mut out, 255, &plain).wrapping_sub(255)), pieces);
            assert!(plain.len() < SHORT || out.len() < plain.len() + 2 * HEADER);
            let (mut found, mut at, mut wanted) = (Vec::new(), 0, 255_u8);
            while at < out.len() {
                assert_eq!(take(&out[at..at + HEADER - 1], &mut found).unwrap(), None, "the header is cut");
                assert_eq!(take(&out[at..at + HEADER], &mut found).unwrap(), None, "the piece is cut");
                let (used, sequence) = take(&out[at..], &mut found).unwrap().unwrap();
                assert_eq!(sequence, wanted);
                (at, wanted) = (at + used, wanted.wrapping_add(1));
            }
            assert!(found == plain);
        }
    }

    #[test]
    fn a_piece_is_as_long_as_it_says() {
        let mut out = Vec::new();
        put(&mut out, 0, &[1; 1000]);
        for (place, byte) in [(4, 0xe7), (4, 0xe9), (5, 9), (7, 0)] {
            let mut wrong = out.clone();
            wrong[place] = byte;
            let mut plain = Vec::new();
            assert!(take(&wrong, &mut plain).is_err(), "{place}");
            assert!(plain.len() <= 1 << 16, "no more is inflated than was told");
        }
    }
}
