//! A shard key's value → its 64-bit hash → its bucket, exactly as Postgres places rows of `PARTITION BY HASH`.
//!
//! The functions are Postgres's own (`hashint8extended`, `hash_any_extended`: Bob Jenkins' lookup3 with a seed), so
//! that any server can compute a row's bucket in SQL: to verify placement, to filter a replication stream, to guard
//! a table. Words are read in little-endian order on every machine: what is stored must not depend on who computes.

use super::function::BUCKETS;

/// What Postgres hashes partition keys with.
pub(super) const PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// What Postgres adds when it folds the hash of the first column into a row's (still empty) hash.
const COMBINE: u64 = 0x49A0_F4DD_15E5_A8E3;

/// For whoever computes with signed numbers: a bucket is a hash's low bits (first) plus this (second), and its low bits.
pub(super) const FOLD: (u64, u64) = (BUCKETS as u64 - 1, COMBINE);

/// The start of lookup3's state, before the length is added.
const GOLDEN: u32 = 0x9E37_79B9;

/// What Postgres adds to it.
const INITIAL: u32 = 3_923_095;

/// The bucket of an integer; `bigint`, `int`, `smallint`, `date` and `timestamptz` agree by design.
pub(super) fn bucket_of_integer(value: i64) -> u16 {
    bucket(hash_integer(value, PARTITION_SEED))
}

/// The bucket of a `text`, `bytea` or `uuid` by its bytes.
pub(super) fn bucket_of_bytes(bytes: &[u8]) -> u16 {
    bucket(hash_bytes(bytes, PARTITION_SEED))
}

/// A hash of bytes for placing shards on the ring: stable, but of nothing that a server has.
pub(super) fn of_bytes(bytes: &[u8]) -> u64 {
    hash_bytes(bytes, PARTITION_SEED)
}

/// The remainder that `satisfies_hash_partition` compares, modulo [`BUCKETS`].
fn bucket(hash: u64) -> u16 {
    let remainder = hash.wrapping_add(COMBINE) % u64::from(BUCKETS);
    u16::try_from(remainder).expect("a remainder of BUCKETS, a u16, fits a u16")
}

/// `hashint8extended`: small values hash as `hashint4extended` and `hashint2extended` hash them.
fn hash_integer(value: i64, seed: u64) -> u64 {
    let (high, low) = halves(value.cast_unsigned());
    let word = low ^ if value >= 0 { high } else { !high };
    let mut state = State::new(4, seed);
    state.a = state.a.wrapping_add(word);
    state.finish()
}

/// `hash_any_extended`.
fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut state = State::new(bytes.len(), seed);
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        let (a, rest) = block.split_at(4);
        let (b, c) = rest.split_at(4);
        state.a = state.a.wrapping_add(word(a));
        state.b = state.b.wrapping_add(word(b));
        state.c = state.c.wrapping_add(word(c));
        state.mix();
    }
    let tail = blocks.remainder();
    let (a, rest) = tail.split_at(tail.len().min(4));
    let (b, c) = rest.split_at(rest.len().min(4));
    state.a = state.a.wrapping_add(word(a));
    state.b = state.b.wrapping_add(word(b));
    // The lowest byte of c is left to the length.
    state.c = state.c.wrapping_add(word(c) << 8);
    state.finish()
}

/// Up to four bytes as a little-endian word.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The upper and the lower half.
#[expect(clippy::cast_possible_truncation, reason = "splitting into halves is what it is for")]
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

/// The three words of lookup3.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(length: usize, seed: u64) -> Self {
        // The algorithm counts the length modulo 2^32.
        let (_, length) = halves(length as u64);
        let start = GOLDEN.wrapping_add(length).wrapping_add(INITIAL);
        let mut state = Self { a: start, b: start, c: start };
        if seed != 0 {
            let (high, low) = halves(seed);
            state.a = state.a.wrapping_add(high);
            state.b = state.b.wrapping_add(low);
            state.mix();
        }
        state
    }

    fn mix(&mut self) {
        let Self { a, b, c } = self;
        *a = a.wrapping_sub(*c) ^ c.rotate_left(4);
        *c = c.wrapping_add(*b);
        *b = b.wrapping_sub(*a) ^ a.rotate_left(6);
        *a = a.wrapping_add(*c);
        *c = c.wrapping_sub(*b) ^ b.rotate_left(8);
        *b = b.wrapping_add(*a);
        *a = a.wrapping_sub(*c) ^ c.rotate_left(16);
        *c = c.wrapping_add(*b);
        *b = b.wrapping_sub(*a) ^ a.rotate_left(19);
        *a = a.wrapping_add(*c);
        *c = c.wrapping_sub(*b) ^ b.rotate_left(4);
        *b = b.wrapping_add(*a);
    }

    fn finish(self) -> u64 {
        let Self { mut a, mut b, mut c } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        u64::from(b) << 32 | u64::from(c)
    }
}
