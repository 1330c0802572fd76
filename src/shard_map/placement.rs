//! Shards → the shard of each bucket: equal shares, a weighted ring, remainders.
//!
//! Explicit ranges are read by `validate`, which has to say what is wrong with them.

use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use consistent_hash::Node;
use consistent_hash::RingHash;
use consistent_hash::StaticHashRing;

use crate::ident::ShardId;
use crate::shard_map::function::BUCKETS;
use crate::shard_map::hash;

/// Points on the ring per unit of weight (dependencies measured 6–7 % spread at this number).
const RING_POINTS: usize = 256;

/// Contiguous shares of the buckets, in the order of the shards, that differ by at most one bucket.
pub(super) fn equal_shares(shards: &[ShardId]) -> Vec<ShardId> {
    let count = shards.len();
    let total = usize::from(BUCKETS);
    let share = |(place, shard): (usize, &ShardId)| {
        let (from, to) = (place * total / count, (place + 1) * total / count);
        std::iter::repeat_n(*shard, to - from)
    };
    shards.iter().enumerate().flat_map(share).collect()
}

/// Bucket → the shard at its remainder.
pub(super) fn by_remainder(shards: &[ShardId]) -> Vec<ShardId> {
    shards.iter().copied().cycle().take(usize::from(BUCKETS)).collect()
}

/// A consistent-hash ring of the shards' names, so that one more shard takes buckets from the others and moves none
/// between them. Fixed for ever: the placement is a function of names and weights alone.
pub(super) fn ring(shards: &[(Arc<str>, ShardId, usize)]) -> Vec<ShardId> {
    let nodes = shards.iter().map(|(name, shard, weight)| {
        Node::new(Point(name.as_bytes().into())).value(*shard).quantity(RING_POINTS * weight)
    });
    let ring = StaticHashRing::new(FixedHash, nodes);
    let place = |bucket: u16| ring.calc_candidates(&Point(bucket.to_le_bytes().as_slice().into())).next();
    (0..BUCKETS).filter_map(|bucket| place(bucket).map(|node| node.value)).collect()
}

/// What is hashed: these bytes, without the framing that `std` adds and may change.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Point(Arc<[u8]>);

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// The hash of Postgres, over the bytes of a [`Point`] and, for a shard, the number of the point as eight
/// little-endian bytes.
struct FixedHash;

impl RingHash for FixedHash {
    fn hash_item<T: Hash>(&self, item: &T) -> u64 {
        let mut bytes = Bytes(Vec::new());
        item.hash(&mut bytes);
        bytes.finish()
    }

    fn hash_vnode<K: Hash>(&self, name: &K, number: usize) -> u64 {
        let mut bytes = Bytes(Vec::new());
        name.hash(&mut bytes);
        bytes.write(&(number as u64).to_le_bytes());
        bytes.finish()
    }
}

/// Collects what it is to hash.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        hash::of_bytes(&self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u16) -> Vec<(Arc<str>, ShardId, usize)> {
        (0..count).map(|number| (format!("s{}", number + 1).into(), ShardId(number), 1)).collect()
    }

    fn owned(buckets: &[ShardId], shard: u16) -> usize {
        buckets.iter().filter(|owner| owner.0 == shard).count()
    }

    #[test]
    fn equal_shares_differ_by_one_at_most() {
        for count in 1..40 {
            let ids: Vec<_> = (0..count).map(ShardId).collect();
            let buckets = equal_shares(&ids);
            assert_eq!(buckets.len(), usize::from(BUCKETS));
            assert!(buckets.is_sorted());
            let sizes: Vec<_> = ids.iter().map(|id| owned(&buckets, id.0)).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{count}: {sizes:?}");
        }
    }

    #[test]
    fn remainders_repeat() {
        let buckets = by_remainder(&[ShardId(0), ShardId(1), ShardId(2), ShardId(1)]);
        assert_eq!(buckets.len(), usize::from(BUCKETS));
        assert!(buckets.iter().enumerate().all(|(bucket, shard)| shard.0 == [0, 1, 2, 1][bucket % 4]));
    }

    #[test]
    fn a_shard_more_moves_buckets_to_itself_only() {
        let (before, after) = (ring(&shards(8)), ring(&shards(9)));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
        assert!(moved.iter().all(|(_, new)| new.0 == 8));
        let share = moved.len() as f64 / f64::from(BUCKETS);
        assert!((0.08..0.15).contains(&share), "{share}");
    }

    #[test]
    fn weight_is_a_share() {
        let mut weighted = shards(3);
        weighted[2].2 = 2;
        let buckets = ring(&weighted);
        let heavy = owned(&buckets, 2) as f64 / f64::from(BUCKETS);
        assert!((0.44..0.56).contains(&heavy), "{heavy}");
    }

    #[test]
    fn the_order_of_the_shards_is_nothing_to_the_ring() {
        let mut turned = shards(5);
        turned.reverse();
        assert_eq!(ring(&shards(5)), ring(&turned));
    }

    /// Stored rows lie where this put them: it must never change.
    #[test]
    fn the_ring_is_fixed() {
        let mut weighted = shards(3);
        weighted[2].2 = 2;
        // A digit a bucket, the shard's number.
        let digits: Vec<_> = ring(&weighted).iter().map(|shard| (shard.0 + 1).to_string()).collect();
        let text: String = digits.chunks(128).map(|line| line.concat() + "\n").collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ring.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == text, "the ring places buckets elsewhere than it did");
    }
}
