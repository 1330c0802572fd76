//! Each mistake that a build with the feature `mistakes` can make is noticed by the fixed cases: they can fail.

use super::cases::CASES;
use super::cases::wrong;
use super::rig::Rig;
use super::rig::Way;
use super::wire::How;

#[test]
fn every_seeded_mistake_is_noticed() {
    let mut rig = Rig::start(&[]);
    let mut unnoticed = Vec::new();
    for mistake in shardway::mistakes::ALL {
        rig.make(mistake);
        let mut run = 0;
        let found =
            CASES.iter().flat_map(|(name, lines)| lines.iter().map(move |it| (name, it))).find_map(|(name, line)| {
                // Over three shards, plainly and prepared.
                [How::Simple, How::Named]
                    .into_iter()
                    .filter(|how| *how == How::Simple || !line.0.contains("; "))
                    .find_map(|how| {
                        let how = if line.2.is_empty() { how } else { How::Named };
                        let way = Way {
                            database: Some(2),
                            how,
                            binary: false,
                            gather: false,
                            profile: 0,
                            in_transaction: false,
                        };
                        run += 1;
                        wrong(&mut rig, way, line).err().map(|_| (*name, line.0))
                    })
            });
        match found {
            Some((name, sql)) => println!("oracle: {mistake}: noticed at case {run}, {name}: {sql}"),
            None => unnoticed.push(mistake),
        }
    }
    assert_eq!(unnoticed, Vec::<&str>::new());
}
