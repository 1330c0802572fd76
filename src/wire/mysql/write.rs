//! Numbers and bytes as they stand in payloads.

/// Appends a number in one to nine bytes.
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_le_bytes();
    let (mark, count) = match number {
        0..=250 => (None, 1),
        251..=0xffff => (Some(0xfc), 2),
        0x1_0000..=0xff_ffff => (Some(0xfd), 3),
        _ => (Some(0xfe), 8),
    };
    out.extend(mark);
    out.extend_from_slice(bytes.get(..count).unwrap_or_default());
}

/// Appends bytes with their number before them.
pub(super) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

/// Appends bytes, and a zero behind them; zeros within are left out.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|it| **it != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::super::read::Reader;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let edges =
            [(0, 1), (250, 1), (251, 3), (0xffff, 3), (0x1_0000, 4), (0xff_ffff, 4), (0x100_0000, 9), (u64::MAX, 9)];
        for (number, length) in edges {
            let mut out = Vec::new();
            super::number(&mut out, number);
            assert_eq!(out.len(), length, "{number}");
            let mut reader = Reader::new(&out, "test");
            assert_eq!(reader.number(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
    }
}
