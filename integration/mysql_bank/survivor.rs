//! A proxy dies between two messages of a COMMIT; the other one, which never heard of the transaction, ends it.

use std::thread;

use shardway::local_cluster::mariadb::USER;

use crate::client::LOST;
use crate::house::House;
use crate::house::SHARDS;
use crate::house::Which;
use crate::house::number;
use crate::proxy::Outcome;
use crate::proxy::until;
use crate::relay::Way;

/// So many deaths with something prepared are enough, unless `SHARDWAY_BANK_SECONDS` asks for more.
const ENOUGH: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_proxy_left_prepared_the_other_ends() -> Outcome {
    let mut house = House::build().await?;
    let enough = if std::env::var("SHARDWAY_BANK_SECONDS").is_ok() { usize::MAX } else { ENOUGH };
    let mut keys = vec![Vec::new(); SHARDS];
    {
        let mut client = house.client(Which::Second)?;
        let rows: Vec<String> = (1..=200).map(|id| format!("({id})")).collect();
        client.done(&format!("INSERT INTO t (id) VALUES {}", rows.join(", ")))?;
        for (shard, keys) in keys.iter_mut().enumerate() {
            *keys = house.direct(shard)?.done("SELECT id FROM t")?.rows.iter().map(|row| number(row, 0)).collect();
        }
        client.done("DELETE FROM t")?;
    }
    let (mut prepared, mut whole, mut none) = (0, 0, 0);
    // Of the part behind the home, which prepares.
    'all: for way in [Way::ToServer, Way::ToProxy] {
        for count in 0.. {
            let own: Vec<i64> = keys.iter_mut().map(|it| it.pop().expect("keys enough")).collect();
            let mut client = house.client(Which::First)?;
            client.done("BEGIN")?;
            for (shard, key) in own.iter().enumerate() {
                let mark = if shard == SHARDS - 1 { "MARK" } else { "" };
                client.done(&format!("INSERT INTO t (id, note) VALUES ({key}, '{mark}')"))?;
            }
            let relay = &house.relays[SHARDS - 1];
            relay.arm_to_hold(way, count);
            let committing = thread::spawn(move || client.one("COMMIT"));
            until("the blow, or the end", async || Ok(committing.is_finished() || relay.has_struck())).await?;
            let struck = house.relays[SHARDS - 1].has_struck();
            if struck {
                house.kill(Which::First);
            }
            house.relays[SHARDS - 1].disarm();
            let answer = committing.join().map_err(|_| "the client's thread panicked")?;
            if !struck {
                assert_eq!(answer.error, None, "{way:?} {count}");
                break;
            }
            assert_eq!(
                answer.error.as_ref().map(|it| it.errno),
                Some(LOST),
                "{way:?} {count}: {USER} heard {answer:?}"
            );
            let left = house.prepared().await?;
            prepared += usize::from(left > 0);
            // The first is dead, and stays so until the second has cleared up.
            house.settled().await?;
            let list: Vec<String> = own.iter().map(ToString::to_string).collect();
            let found = house.rows(&format!("SELECT id FROM t WHERE id IN ({})", list.join(", ")))?.len();
            assert!(found == 0 || found == SHARDS, "{way:?} {count}: {found} rows\n{}", house.log());
            println!("{way:?} {count}: {left} were prepared, {found} rows");
            (whole, none) = (whole + usize::from(found > 0), none + usize::from(found == 0));
            house.serve(Which::First).await?;
            if prepared >= enough && whole > 0 && none > 0 {
                break 'all;
            }
        }
    }
    println!("figure: {prepared} deaths with something prepared: {whole} whole, {none} absent");
    assert!(prepared >= ENOUGH && whole > 0 && none > 0, "{prepared} with something prepared");
    house.stop().await
}
