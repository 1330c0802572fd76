//! Copies as temporary tables, for what is too large for an array or needs a key: `COPY … TO STDOUT` on every shard
//! goes on into `COPY … FROM STDIN` on the server that gathers. The tables go with the transaction.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::flight;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::exec::transfer;
use crate::exec::transfer::Broken;
use crate::exec::transfer::Budget;
use crate::ident::ShardId;
use crate::plan::Copy;
use crate::plan::Gather;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::cancel::Ticket;
use crate::session::gather::SETTLE;
use crate::session::gather::UNSETTLE;
use crate::session::simple::messages;

impl Session {
    /// Whether nothing may be written in the transaction at hand, temporary tables neither.
    pub(super) fn is_read_only(&self) -> bool {
        let by_default = || self.mode_at_begin("default_transaction_read_only").is_some_and(|it| &**it == "on");
        self.transaction.modes.read_only.unwrap_or_else(by_default)
    }

    /// Fills one temporary table a copy on the link that gathers, within what its transaction is. The tables' names.
    pub(super) async fn stage(
        &mut self,
        gather: &Gather,
        links: &[(ShardId, u32)],
        home: ShardId,
    ) -> Result<Vec<String>, Trouble> {
        let limits = self.access.service.database.gather;
        let mut budget = Budget { bytes: limits.bytes_max, rows: limits.rows_max };
        let keeper = link_of(links, home);
        self.staged = self.staged.wrapping_add(1);
        if let Some(link) = self.links.iter_mut().find(|link| link.id == keeper) {
            link.unpreparable = true;
        }
        let names: Vec<String> =
            (0..gather.copies.len()).map(|place| format!("shardway_{}_{place}", self.staged)).collect();
        for (copy, name) in gather.copies.iter().zip(&names) {
            // With its indexes: a statement may rely on the primary key, or be slow without the others.
            let make = format!(
                "CREATE TEMP TABLE pg_temp.\"{name}\" (LIKE {}{}) ON COMMIT DROP",
                copy.quoted(),
                if copy.indexed { " INCLUDING INDEXES" } else { "" }
            );
            self.say_step(keeper, &make, Show::Caller);
            if let Some(key) = copy.key.as_ref().filter(|_| !copy.indexed) {
                self.say_step(keeper, &format!("ALTER TABLE pg_temp.\"{name}\" ADD PRIMARY KEY ({key})"), Show::Caller);
            }
            if !copy.dropped.is_empty() {
                self.say_step(keeper, &format!("ALTER TABLE pg_temp.\"{name}\" {}", copy.dropped), Show::Caller);
            }
            // What is there already needs no journey.
            if copy.shards.contains(home) {
                let limit = budget.rows.saturating_add(1);
                let fill = format!("INSERT INTO pg_temp.\"{name}\" ({}) {} LIMIT {limit}", copy.list, copy.select);
                self.say_step(keeper, &fill, Show::Caller);
            }
            if copy.shards.contains(home) {
                let size = format!("SELECT pg_catalog.pg_table_size('pg_temp.\"{name}\"'::pg_catalog.regclass)");
                self.say_step(keeper, &size, Show::Caller);
            }
        }
        let unsettled = gather.copies.iter().any(|it| it.unsettled);
        for (_, id) in links.iter().filter(|(_, id)| unsettled && *id != keeper) {
            self.say_step(*id, SETTLE, Show::Nobody);
        }
        let made = self.fly_steps().await?;
        let all = gather.copies.first();
        for message in messages(&made) {
            match message.first() {
                Some(b'C') => {
                    let count = rows_of_tag(message);
                    budget.rows = budget.rows.checked_sub(count).ok_or_else(|| too_much(all, self))?;
                }
                // What is there already, as it lies on disk.
                Some(b'D') => {
                    let size = message.get(11..).and_then(|it| std::str::from_utf8(it).ok());
                    let size = size.and_then(|it| it.parse::<usize>().ok()).unwrap_or(0);
                    budget.bytes = budget.bytes.checked_sub(size).ok_or_else(|| too_much(all, self))?;
                }
                _ => {}
            }
        }
        for (copy, name) in gather.copies.iter().zip(&names) {
            let sources: Vec<u32> = copy.shards.iter().filter(|it| *it != home).map(|it| link_of(links, it)).collect();
            self.wanted(())?;
            if !sources.is_empty() {
                self.transfer(copy, name, keeper, &sources, &mut budget).await?;
            }
        }
        for (_, id) in links.iter().filter(|(_, id)| unsettled && *id != keeper) {
            self.say_step(*id, UNSETTLE, Show::Nobody);
        }
        for name in &names {
            self.say_step(keeper, &format!("ANALYZE pg_temp.\"{name}\""), Show::Nobody);
        }
        self.fly_steps().await?;
        Ok(names)
    }

    /// Carries the rows of one copy from where they are to its table.
    async fn transfer(
        &mut self,
        copy: &Copy,
        name: &str,
        keeper: u32,
        sources: &[u32],
        budget: &mut Budget,
    ) -> Result<(), Trouble> {
        // The client's may lack characters that the answer does not have either.
        let encoding = if self.world()?.has_utf8() { "" } else { " WITH (ENCODING 'UTF8')" };
        let into = format!("COPY pg_temp.\"{name}\" ({}) FROM STDIN{encoding}", copy.list);
        let from = format!("COPY ({}) TO STDOUT{encoding}", copy.select);
        for (id, sql) in std::iter::once((keeper, &into)).chain(sources.iter().map(|it| (*it, &from))) {
            let Some(link) = self.links.iter_mut().find(|link| link.id == id) else { return Err(gone()) };
            if id == keeper {
                say::step_in(&mut link.out, sql);
                link.connection.unnamed = 0;
            } else {
                link.say_step(sql);
            }
            say::flush(&mut link.out);
            link.unsynced = true;
        }
        let place = |session: &Self, id: u32| session.links.iter().position(|link| link.id == id);
        let places: Vec<usize> = sources.iter().filter_map(|it| place(self, *it)).collect();
        let Some(target) = place(self, keeper) else { return Err(gone()) };
        let span = self.map.timeouts.statement;
        let done = exec::within(span, transfer::transfer(&mut self.links, &places, target, budget)).await;
        let broken = match done {
            Some(Ok(())) => {
                if let Some(link) = self.links.get_mut(target) {
                    say::close_step(&mut link.out);
                    say::flush(&mut link.out);
                }
                let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(target).unwrap_or(u8::MAX)]);
                for (expect, show) in [(Expect::Execute, Show::Caller), (Expect::Close, Show::Nobody)] {
                    self.items.push(Item::Owed { expect, links: links.clone(), show, prepares: 0 });
                }
                self.fly_steps().await?;
                return Ok(());
            }
            Some(Err(broken)) => Some(broken),
            None => None,
        };
        // Whoever still sends is not listened to any more, and what was copied is not wanted.
        let failed = match &broken {
            Some(Broken::Failed(at, _)) => self.links.get(*at).map(|link| link.id),
            _ => None,
        };
        let lost = match &broken {
            Some(Broken::Lost(at)) => self.links.get(*at).map(|link| self.access.node_name(link.node).to_owned()),
            _ => None,
        };
        // Of a row that has been sent in part the server waits for the rest, whatever else it is told.
        let halved = places.iter().any(|at| self.links.get(*at).is_some_and(|link| link.connection.is_within_row()));
        let mut ended: SmallVec<[u32; 8]> = SmallVec::new();
        for id in sources.iter().copied().chain(std::iter::once(keeper)) {
            let Some(link) = self.links.iter_mut().find(|link| link.id == id) else { continue };
            if failed == Some(id) && !(id == keeper && halved) {
                link.skips = true;
                link.spoiled = true;
            } else {
                Ticket::cancel_now(&link.connection);
                ended.push(id);
            }
        }
        for id in ended {
            if let Some(at) = place(self, id) {
                if self.links.get(at).is_some_and(|link| link.pinned) {
                    return Err(Trouble::End(self.lose_tie(at)));
                }
                self.lose(at);
            }
        }
        self.transaction.failed = self.transaction.is_open();
        Err(match broken {
            None => ClientError::new(
                Code::TimedOut,
                "canceling statement due to the proxy's statement timeout",
                "Raise timeouts.statement in the shard map, or make the statement faster.",
            )
            .into(),
            Some(Broken::TooMuch) => too_much(Some(copy), self).into(),
            Some(Broken::Failed(_, error)) => Trouble::Told(error),
            Some(Broken::Lost(_)) => ClientError::new(
                Code::NotDone,
                format_args!(
                    "the connection to node \"{}\" was lost; nothing of this was done",
                    lost.as_deref().unwrap_or_default()
                ),
                "Run the transaction again.",
            )
            .into(),
        })
    }

    /// Says a statement of the proxy's own on a link, as a part of what its transaction is.
    pub(super) fn say_step(&mut self, id: u32, sql: &str, show: Show) {
        let Some(at) = self.links.iter().position(|link| link.id == id) else { return };
        if let Some(link) = self.links.get_mut(at) {
            link.say_step(sql);
            link.unsynced = true;
        }
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        for expect in [Expect::Parse, Expect::Bind, Expect::Execute, Expect::Close] {
            // Errors are the caller's to tell.
            let show = if expect == Expect::Execute { show } else { Show::Caller };
            self.items.push(Item::Owed { expect, links: links.clone(), show, prepares: 0 });
        }
    }

    /// Carries such statements out, and gives what was collected.
    pub(super) async fn fly_steps(&mut self) -> Result<Vec<u8>, Trouble> {
        self.say_flush();
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_none() {
            return Ok(outcome.collected);
        }
        Err(match outcome.error {
            None => Trouble::Failed,
            Some(error) => Trouble::Told(flight::without_position(error)),
        })
    }
}

fn link_of(links: &[(ShardId, u32)], shard: ShardId) -> u32 {
    links.iter().find(|(it, _)| *it == shard).map_or(0, |(_, id)| *id)
}

fn rows_of_tag(message: &[u8]) -> usize {
    let tag = message.get(5..message.len().saturating_sub(1)).unwrap_or_default();
    let count = std::str::from_utf8(tag).ok().and_then(|it| it.rsplit(' ').next()).and_then(|it| it.parse().ok());
    count.unwrap_or(0)
}

fn too_much(copy: Option<&Copy>, session: &Session) -> ClientError {
    let limits = &session.access.service.database.gather;
    let table: Arc<str> = copy.map_or_else(|| "a table".into(), |it| format!("\"{}\"", it.table).into());
    ClientError::new(
        Code::GatherLimit,
        format!(
            "the statement needs more of {table} in one place than {} rows or {} bytes",
            limits.rows_max, limits.bytes_max
        ),
        "Narrow it by conditions that every row must satisfy, or by the shard key; or raise gather.rows_max and \
         gather.bytes_max in the map.",
    )
}

fn gone() -> Trouble {
    ClientError::new(Code::Internal, "a link is gone that was held", "Report this.").into()
}
