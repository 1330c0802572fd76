//! Judges a history of lists to which transactions append numbers that nobody else appends.
//!
//! Pure: it knows what clients said and heard, in the order of one clock, and nothing of how it came about.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

/// A list's name.
pub(crate) type Key = i64;
/// What is appended: each transaction has a number of its own.
pub(crate) type Number = i64;

/// What a client heard of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Committed,
    /// Certainly not done.
    Failed,
    /// It may have been done.
    Unknown,
}

/// One transaction: its number was appended to each of the lists.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) number: Number,
    pub(crate) keys: Vec<Key>,
    /// When it was begun, and when its end was heard.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) heard: Heard,
}

/// What a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// All lists at one moment.
    OneMoment,
    /// Each shard at its own.
    EachItsOwn,
}

/// One read of lists.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) promise: Promise,
    pub(crate) lists: BTreeMap<Key, Vec<Number>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) appends: Vec<Append>,
    pub(crate) reads: Vec<Read>,
    /// The lists when all is over.
    pub(crate) end: BTreeMap<Key, Vec<Number>>,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// It was acknowledged, and is not there for a read that began later, or at the end.
    Lost(Number, Key),
    /// It is in the list twice.
    Duplicated(Number, Key),
    /// Its client was told that it was not done, or nobody wrote it there.
    Unasked(Number, Key),
    /// What a read saw is not how the list began at the end.
    Rewritten(Key),
    /// These came one after the other, and a list (or several together) has them the other way round.
    Reordered(Number, Number),
    /// What one transaction wrote was seen in the first list and not in the second.
    Fractured(Number, Key, Key),
    /// Of two reads at one moment each, each has something that the other lacks: the numbers.
    Forked(Number, Number),
}

/// Everything that is wrong; nothing is said twice.
pub(crate) fn check(history: &History) -> BTreeSet<Fault> {
    let mut faults = BTreeSet::new();
    let appends: BTreeMap<Number, &Append> = history.appends.iter().map(|it| (it.number, it)).collect();
    let end = Read { begun: u64::MAX, ended: u64::MAX, promise: Promise::OneMoment, lists: history.end.clone() };
    let seen: Vec<Seen<'_>> = history.reads.iter().chain([&end]).map(Seen::of).collect();
    for it in &seen {
        check_read(it, history, &appends, &mut faults);
    }
    check_order(history, &appends, &mut faults);
    check_forks(seen, &mut faults);
    faults
}

/// A read, and its lists as sets.
struct Seen<'a> {
    read: &'a Read,
    sets: BTreeMap<Key, HashSet<Number>>,
}

impl<'a> Seen<'a> {
    fn of(read: &'a Read) -> Self {
        let sets = read.lists.iter().map(|(key, list)| (*key, list.iter().copied().collect())).collect();
        Self { read, sets }
    }
}

fn check_read(seen: &Seen<'_>, history: &History, appends: &BTreeMap<Number, &Append>, faults: &mut BTreeSet<Fault>) {
    let Seen { read, sets } = seen;
    for (key, list) in &read.lists {
        let mut once = HashSet::new();
        for number in list {
            if !once.insert(*number) {
                faults.insert(Fault::Duplicated(*number, *key));
            }
            let asked = appends
                .get(number)
                .is_some_and(|it| it.keys.contains(key) && it.heard != Heard::Failed && it.begun < read.ended);
            if !asked {
                faults.insert(Fault::Unasked(*number, *key));
            }
        }
        let end = history.end.get(key).map(Vec::as_slice).unwrap_or_default();
        if !end.starts_with(list) {
            faults.insert(Fault::Rewritten(*key));
        }
    }
    for append in &history.appends {
        let has = |key: &&Key| sets.get(key).is_some_and(|it| it.contains(&append.number));
        let lacks = |key: &&Key| sets.get(key).is_some_and(|it| !it.contains(&append.number));
        if append.heard == Heard::Committed && append.ended < read.begun {
            for key in append.keys.iter().filter(lacks) {
                faults.insert(Fault::Lost(append.number, *key));
            }
        }
        if read.promise == Promise::OneMoment
            && let (Some(one), Some(other)) = (append.keys.iter().find(has), append.keys.iter().find(lacks))
        {
            faults.insert(Fault::Fractured(append.number, *one, *other));
        }
    }
}

/// One after the other in time is one after the other in every list; and lists agree on one order.
fn check_order(history: &History, appends: &BTreeMap<Number, &Append>, faults: &mut BTreeSet<Fault>) {
    let mut next: BTreeMap<Number, BTreeSet<Number>> = BTreeMap::new();
    for list in history.end.values() {
        let mut latest: Option<&Append> = None;
        for append in list.iter().filter_map(|it| appends.get(it)) {
            if let Some(before) = latest.filter(|it| append.heard == Heard::Committed && append.ended < it.begun) {
                faults.insert(Fault::Reordered(append.number, before.number));
            }
            if latest.is_none_or(|it| it.begun < append.begun) {
                latest = Some(append);
            }
        }
        for pair in list.windows(2) {
            if let [one, other] = pair
                && one != other
            {
                next.entry(*one).or_default().insert(*other);
            }
        }
    }
    // Whoever has nobody before it is taken away, until only circles are left.
    let mut before: BTreeMap<Number, usize> = BTreeMap::new();
    for (one, others) in &next {
        before.entry(*one).or_default();
        for other in others {
            *before.entry(*other).or_default() += 1;
        }
    }
    let mut free: Vec<Number> = before.iter().filter(|(_, count)| **count == 0).map(|(it, _)| *it).collect();
    while let Some(one) = free.pop() {
        before.remove(&one);
        for other in next.get(&one).into_iter().flatten() {
            if let Some(count) = before.get_mut(other) {
                *count -= 1;
                if *count == 0 {
                    free.push(*other);
                }
            }
        }
    }
    if let (Some((one, _)), Some((other, _))) = (before.first_key_value(), before.last_key_value())
        && one != other
    {
        faults.insert(Fault::Reordered(*one, *other));
    }
}

/// Reads at one moment come one after the other: of two, one has all that the other has.
fn check_forks(mut seen: Vec<Seen<'_>>, faults: &mut BTreeSet<Fault>) {
    seen.retain(|it| it.read.promise == Promise::OneMoment);
    seen.sort_by_key(|it| it.read.lists.values().map(Vec::len).sum::<usize>());
    for pair in seen.windows(2) {
        let [small, large] = pair else { continue };
        let beyond = |one: &Seen<'_>, other: &Seen<'_>| {
            one.read.lists.iter().find_map(|(key, list)| {
                let theirs = other.sets.get(key)?;
                list.iter().find(|it| !theirs.contains(it)).copied()
            })
        };
        if let (Some(one), Some(other)) = (beyond(small, large), beyond(large, small)) {
            faults.insert(Fault::Forked(one, other));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(number: Number, keys: &[Key], begun: u64, ended: u64, heard: Heard) -> Append {
        Append { number, keys: keys.to_vec(), begun, ended, heard }
    }

    fn lists(all: &[(Key, &[Number])]) -> BTreeMap<Key, Vec<Number>> {
        all.iter().map(|(key, list)| (*key, list.to_vec())).collect()
    }

    fn read(begun: u64, promise: Promise, all: &[(Key, &[Number])]) -> Read {
        Read { begun, ended: begun + 1, promise, lists: lists(all) }
    }

    /// Three transactions one after the other, a fourth that failed and a fifth of which nobody knows.
    fn good() -> History {
        History {
            appends: vec![
                append(1, &[10, 20], 0, 10, Heard::Committed),
                append(2, &[20, 30], 20, 30, Heard::Committed),
                append(3, &[10, 20, 30], 40, 60, Heard::Committed),
                append(4, &[10, 30], 70, 80, Heard::Failed),
                append(5, &[10, 20], 70, 90, Heard::Unknown),
            ],
            reads: vec![
                read(12, Promise::OneMoment, &[(10, &[1]), (20, &[1]), (30, &[])]),
                read(45, Promise::EachItsOwn, &[(10, &[1, 3]), (20, &[1, 2]), (30, &[2, 3])]),
                read(75, Promise::OneMoment, &[(10, &[1, 3]), (20, &[1, 2, 3]), (30, &[2, 3])]),
            ],
            end: lists(&[(10, &[1, 3, 5]), (20, &[1, 2, 3, 5]), (30, &[2, 3])]),
        }
    }

    fn faults(change: impl FnOnce(&mut History)) -> Vec<Fault> {
        let mut history = good();
        change(&mut history);
        check(&history).into_iter().collect()
    }

    #[test]
    fn a_good_history_has_no_fault() {
        assert_eq!(faults(|_| {}), []);
        // What is not known may as well not have been done.
        assert_eq!(faults(|it| it.end = lists(&[(10, &[1, 3]), (20, &[1, 2, 3]), (30, &[2, 3])])), []);
    }

    #[test]
    fn what_is_lost_is_found() {
        // At the end, everywhere or on one shard (which is a fracture too).
        assert_eq!(
            faults(|it| {
                it.reads.clear();
                it.end = lists(&[(10, &[1, 5]), (20, &[1, 2, 5]), (30, &[2])]);
            }),
            [Fault::Lost(3, 10), Fault::Lost(3, 20), Fault::Lost(3, 30)]
        );
        assert_eq!(
            faults(|it| it.end = lists(&[(10, &[1, 3, 5]), (20, &[1, 2, 3, 5]), (30, &[2])])),
            [Fault::Lost(3, 30), Fault::Rewritten(30), Fault::Fractured(3, 10, 30), Fault::Forked(3, 5)]
        );
        // For a moment, to whoever read after the acknowledgement.
        assert_eq!(
            faults(|it| it.reads.push(read(31, Promise::EachItsOwn, &[(20, &[1]), (30, &[2])]))),
            [Fault::Lost(2, 20)]
        );
        // Who read while it was being committed may have missed it.
        assert_eq!(faults(|it| it.reads.push(read(25, Promise::EachItsOwn, &[(20, &[1]), (30, &[2])]))), []);
    }

    #[test]
    fn what_is_there_twice_is_found() {
        assert_eq!(
            faults(|it| it.end = lists(&[(10, &[1, 3, 5]), (20, &[1, 2, 3, 5, 2]), (30, &[2, 3])])),
            [Fault::Duplicated(2, 20), Fault::Reordered(2, 5)]
        );
        assert_eq!(
            faults(|it| {
                it.reads.clear();
                it.end = lists(&[(10, &[1, 3, 3, 5]), (20, &[1, 2, 3, 5]), (30, &[2, 3])]);
            }),
            [Fault::Duplicated(3, 10)]
        );
    }

    #[test]
    fn what_was_not_done_and_is_there_is_found() {
        assert_eq!(
            faults(|it| it.end = lists(&[(10, &[1, 3, 4, 5]), (20, &[1, 2, 3, 5]), (30, &[2, 3, 4])])),
            [Fault::Unasked(4, 10), Fault::Unasked(4, 30)]
        );
        // A list that it does not belong to, a number that nobody wrote, and one before its time.
        assert!(faults(|it| it.end = lists(&[(30, &[2, 3, 5])])).contains(&Fault::Unasked(5, 30)));
        assert!(faults(|it| it.end = lists(&[(30, &[2, 3, 99])])).contains(&Fault::Unasked(99, 30)));
        assert_eq!(
            faults(|it| it.reads.push(read(13, Promise::EachItsOwn, &[(20, &[1, 2])]))),
            [Fault::Unasked(2, 20)]
        );
    }

    #[test]
    fn what_is_in_another_order_is_found() {
        // A read saw what the list's end does not begin with.
        assert_eq!(faults(|it| it.reads.push(read(75, Promise::EachItsOwn, &[(10, &[3, 1])]))), [Fault::Rewritten(10)]);
        // 2 was heard of before 3 began.
        assert_eq!(
            faults(|it| {
                it.reads.clear();
                it.end = lists(&[(10, &[1, 3]), (20, &[1, 3, 2]), (30, &[3, 2])]);
            }),
            [Fault::Reordered(2, 3)]
        );
        // Two lists that disagree about two which overlap in time.
        let mut circle = History {
            appends: vec![append(1, &[10, 20], 0, 10, Heard::Committed), append(2, &[10, 20], 5, 15, Heard::Committed)],
            reads: Vec::new(),
            end: lists(&[(10, &[1, 2]), (20, &[2, 1])]),
        };
        assert_eq!(check(&circle).into_iter().collect::<Vec<_>>(), [Fault::Reordered(1, 2)]);
        circle.end = lists(&[(10, &[2, 1]), (20, &[2, 1])]);
        assert!(check(&circle).is_empty());
    }

    #[test]
    fn what_is_seen_in_part_is_found() {
        let part: &[(Key, &[Number])] = &[(10, &[1, 3]), (20, &[1, 2]), (30, &[2, 3])];
        assert_eq!(faults(|it| it.reads.push(read(45, Promise::OneMoment, part))), [Fault::Fractured(3, 10, 20)]);
        // At the end nothing is on its way any more.
        assert_eq!(
            faults(|it| it.end = lists(&[(10, &[1, 3, 5]), (20, &[1, 2, 3]), (30, &[2, 3])])),
            [Fault::Fractured(5, 10, 20)]
        );
    }

    #[test]
    fn reads_that_contradict_each_other_are_found() {
        // 1 and 2 are each on one shard; one read saw the one first, and another the other.
        let history = History {
            appends: vec![append(1, &[10], 0, 90, Heard::Committed), append(2, &[20], 0, 90, Heard::Committed)],
            reads: vec![
                read(20, Promise::OneMoment, &[(10, &[1]), (20, &[])]),
                read(20, Promise::OneMoment, &[(10, &[]), (20, &[2])]),
            ],
            end: lists(&[(10, &[1]), (20, &[2])]),
        };
        assert_eq!(check(&history).into_iter().collect::<Vec<_>>(), [Fault::Forked(1, 2)]);
    }
}
