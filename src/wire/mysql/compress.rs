//! The stream as both sides send it once compression was agreed on: pieces of it behind seven bytes (the piece's length, a
//! number that counts, its length before), packed, or as they were where the length before is 0.

use std::io;
use std::io::Read;
use std::io::Write;

use flate2::Compression;
use flate2::bufread::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::capability;
use super::frame::PACKET_MAX;
use super::frame::Violation;

/// Bytes before a piece.
pub const HEADER: usize = 7;
/// What is shorter is sent as it is; as servers have it.
const SHORT: usize = 50;
/// How far back a piece may refer, as a power of two: a piece is shorter than that.
const WINDOW_MAX: u32 = 24;

/// How hard Zstandard is to try at most: a higher level costs many times as much for little.
const LEVEL_MAX: u8 = 6;

/// How pieces are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// zlib.
    Zlib,
    /// Zstandard, and how hard it is to try.
    Zstd(u8),
}

impl Method {
    /// What both sides agreed on, if they did; zlib where they agreed on either, as servers have it. `level`, 1 to 22, is
    /// the client's wish for Zstandard, which costs the client nothing and others their time: it is heeded as far as that is
    /// cheap. The protocol promises nothing of it, for whoever unpacks need not know it.
    ///
    /// # Errors
    /// The level, if there is none such.
    pub fn agreed(capabilities: u32, level: u8) -> Result<Option<Self>, u8> {
        match capabilities {
            it if it & capability::COMPRESS != 0 => Ok(Some(Self::Zlib)),
            it if it & capability::ZSTD == 0 => Ok(None),
            _ if (1..=22).contains(&level) => Ok(Some(Self::Zstd(level.min(LEVEL_MAX)))),
            _ => Err(level),
        }
    }

    /// Packs to the end of `out`.
    fn pack(self, out: &mut Vec<u8>, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Zlib => {
                let mut encoder = ZlibEncoder::new(out, Compression::fast());
                encoder.write_all(piece)?;
                encoder.finish().map(drop)
            }
            Self::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(out, level.into())?;
                // As long as it is, it needs no wider window.
                encoder.set_pledged_src_size(u64::try_from(piece.len()).ok())?;
                encoder.write_all(piece)?;
                encoder.finish().map(drop)
            }
        }
    }

    /// Unpacks to the end of `plain`, no more than `limit` bytes.
    fn unpack(self, plain: &mut Vec<u8>, body: &[u8], limit: u64) -> io::Result<usize> {
        match self {
            Self::Zlib => ZlibDecoder::new(body).take(limit).read_to_end(plain),
            Self::Zstd(_) => {
                let mut decoder = zstd::Decoder::with_buffer(body)?;
                decoder.window_log_max(WINDOW_MAX)?;
                decoder.take(limit).read_to_end(plain)
            }
        }
    }
}

/// Appends pieces that hold `plain`, the first with the number `sequence`; the number that comes next.
pub fn put(out: &mut Vec<u8>, mut sequence: u8, plain: &[u8], method: Method) -> u8 {
    for piece in plain.chunks(PACKET_MAX) {
        let begin = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let packed =
            piece.len() >= SHORT && method.pack(out, piece).is_ok() && out.len() - begin - HEADER < piece.len();
        if !packed {
            out.truncate(begin + HEADER);
            out.extend_from_slice(piece);
        }
        let length = |it: usize| u32::try_from(it).unwrap_or(u32::MAX).to_le_bytes();
        let [a, b, c, _] = length(out.len() - begin - HEADER);
        let [d, e, f, _] = length(if packed { piece.len() } else { 0 });
        if let Some(header) = out.get_mut(begin..begin + HEADER) {
            header.copy_from_slice(&[a, b, c, sequence, d, e, f]);
        }
        sequence = sequence.wrapping_add(1);
    }
    sequence
}

/// Takes the first piece of `bytes`, and appends what it holds to `plain`: how many bytes were used, and its number. `None`:
/// more bytes are needed.
///
/// # Errors
/// It does not hold what its header says.
pub fn take(bytes: &[u8], plain: &mut Vec<u8>, method: Method) -> Result<Option<(usize, u8)>, Violation> {
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
        let count = method.unpack(plain, body, limit);
        if count.map_err(|_| wrong("cannot be unpacked"))? != before {
            return Err(wrong("is of another length than it says"));
        }
    }
    Ok(Some((HEADER + length, sequence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 4] = [Method::Zlib, Method::Zstd(1), Method::Zstd(3), Method::Zstd(22)];

    #[test]
    fn what_is_put_is_taken_again() {
        let noise: Vec<u8> = (0..5000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        for (method, plain) in METHODS.into_iter().flat_map(|method| {
            [vec![7; 3], vec![7; 5000], noise.clone(), vec![1; PACKET_MAX + 100]].map(|it| (method, it))
        }) {
            let mut out = Vec::new();
            let pieces = plain.len().div_ceil(PACKET_MAX);
            assert_eq!(usize::from(put(&mut out, 255, &plain, method).wrapping_sub(255)), pieces);
            assert!(plain.len() < SHORT || out.len() < plain.len() + 2 * HEADER);
            let (mut found, mut at, mut wanted) = (Vec::new(), 0, 255_u8);
            while at < out.len() {
                assert_eq!(take(&out[at..at + HEADER - 1], &mut found, method).unwrap(), None, "the header is cut");
                assert_eq!(take(&out[at..at + HEADER], &mut found, method).unwrap(), None, "the piece is cut");
                let (used, sequence) = take(&out[at..], &mut found, method).unwrap().unwrap();
                assert_eq!(sequence, wanted);
                (at, wanted) = (at + used, wanted.wrapping_add(1));
            }
            assert!(found == plain);
        }
    }

    #[test]
    fn a_piece_is_as_long_as_it_says() {
        for method in METHODS {
            let mut out = Vec::new();
            put(&mut out, 0, &[1; 1000], method);
            for (place, byte) in [(4, 0xe7), (4, 0xe9), (5, 9), (7, 0)] {
                let mut wrong = out.clone();
                wrong[place] = byte;
                let mut plain = Vec::new();
                assert!(take(&wrong, &mut plain, method).is_err(), "{method:?} {place}");
                assert!(plain.len() <= 1 << 16, "no more is unpacked than was told");
            }
        }
    }

    #[test]
    fn a_client_gets_what_it_asked_for() {
        let both = capability::COMPRESS | capability::ZSTD;
        for (capabilities, level, method) in [
            (0, 3, Ok(None)),
            (capability::COMPRESS, 0, Ok(Some(Method::Zlib))),
            (both, 3, Ok(Some(Method::Zlib))),
            (capability::ZSTD, 1, Ok(Some(Method::Zstd(1)))),
            (capability::ZSTD, 6, Ok(Some(Method::Zstd(6)))),
            (capability::ZSTD, 22, Ok(Some(Method::Zstd(6)))),
            (capability::ZSTD, 0, Err(0)),
            (capability::ZSTD, 23, Err(23)),
        ] {
            assert_eq!(Method::agreed(capabilities, level), method);
        }
    }
}
