//! Keys whose shard a table of the database says (scheme `directory`): what of it is known, and what has to be asked.
//!
//! Planning asks nobody. A key that is not known leaves every shard possible, and is noted: then the plan is to look it
//! up ([`Plan::LookUp`](crate::plan::Plan)), and to plan anew with what came of that.

use std::cell::RefCell;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::ident::ShardId;
use crate::plan::key::Values;
use crate::shard_map::Group;
use crate::shard_map::Key;

/// What directories have said.
#[derive(Debug, Default)]
pub struct Known {
    told: Vec<Told>,
    wanted: RefCell<Vec<(usize, Key)>>,
}

/// What one directory has said.
#[derive(Debug)]
struct Told {
    group: usize,
    /// `None` inside: it does not hold the key.
    shards: HashMap<Key, Option<ShardId>, RandomState>,
    /// It holds no other keys.
    whole: bool,
}

/// Keys to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// Each with the place of its group in the map; no key twice.
    pub keys: Vec<(usize, Key)>,
}

/// Where the rows of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    On(ShardId),
    /// No shard takes it.
    Nowhere,
    /// A directory has to be asked, and has been noted.
    Unknown,
}

impl Known {
    /// Takes in what a directory says of a key; `None`: it does not hold it.
    pub fn tell(&mut self, group: usize, key: Key, shard: Option<ShardId>) {
        self.of(group).shards.insert(key, shard);
    }

    /// A directory has said all that it holds.
    pub fn tell_all(&mut self, group: usize) {
        self.of(group).whole = true;
    }

    /// What has been asked for in vain since the last time.
    pub fn wanted(&self) -> Option<LookUp> {
        let keys = std::mem::take(&mut *self.wanted.borrow_mut());
        (!keys.is_empty()).then_some(LookUp { keys })
    }

    fn of(&mut self, group: usize) -> &mut Told {
        let place = self.told.iter().position(|it| it.group == group).unwrap_or_else(|| {
            self.told.push(Told { group, shards: HashMap::default(), whole: false });
            self.told.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "it has just been found or made")]
        &mut self.told[place]
    }

    fn find(&self, group: usize, key: &Key, missing: Option<ShardId>) -> Lies {
        let told = self.told.iter().find(|it| it.group == group);
        let lies = |shard: Option<ShardId>| shard.or(missing).map_or(Lies::Nowhere, Lies::On);
        match told.map(|it| (it.shards.get(key), it.whole)) {
            Some((Some(shard), _)) => lies(*shard),
            Some((None, true)) => lies(None),
            Some((None, false)) | None => {
                let mut wanted = self.wanted.borrow_mut();
                if !wanted.iter().any(|(at, it)| *at == group && it == key) {
                    wanted.push((group, key.clone()));
                }
                Lies::Unknown
            }
        }
    }
}

impl Values<'_> {
    /// Where the rows of a key of the group at that place of the map are.
    pub(crate) fn lies(&self, place: usize, group: &Group, key: &Key) -> Lies {
        if let Some(shard) = group.function.shard(key) {
            return Lies::On(shard);
        }
        match group.function.as_directory() {
            Some(directory) if key.is_of(group.key_type) => match self.known {
                Some(known) => known.find(place, key, directory.missing),
                None => Lies::Unknown,
            },
            _ => Lies::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_noted_once() {
        let mut known = Known::default();
        let (one, two) = (Key::Int(1), Key::Int(2));
        assert_eq!(known.find(0, &one, None), Lies::Unknown);
        assert_eq!(known.find(0, &one, Some(ShardId(2))), Lies::Unknown);
        assert_eq!(known.find(3, &one, None), Lies::Unknown);
        assert_eq!(known.wanted(), Some(LookUp { keys: vec![(0, one.clone()), (3, one.clone())] }));
        assert_eq!(known.wanted(), None);
        known.tell(0, one.clone(), Some(ShardId(1)));
        known.tell(0, two.clone(), None);
        assert_eq!(known.find(0, &one, Some(ShardId(2))), Lies::On(ShardId(1)));
        assert_eq!(known.find(0, &two, None), Lies::Nowhere);
        assert_eq!(known.find(0, &two, Some(ShardId(2))), Lies::On(ShardId(2)));
        assert_eq!(known.find(3, &two, None), Lies::Unknown);
        known.tell_all(3);
        assert_eq!(known.find(3, &one, None), Lies::Nowhere);
    }
}
