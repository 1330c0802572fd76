//! What most statements are: whole, for one shard, with an answer that is the client's as it stands.
//!
//! A query, or an execution of what was prepared, is put on its link and its answer passed on without the machinery that
//! `Session::command` needs for everything else. Whatever is not plainly so is left to that, with nothing done that would
//! not be done there too; and what turns out otherwise while it is answered is brought to its end by [`Session::go_on`].

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use crate::exec::Freshness;
use crate::exec::mysql::Link;
use crate::exec::mysql::passing::Passing;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::ident::ShardId;
use crate::plan::Access;
use crate::plan::Parameters;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::Template;
use crate::plan::World;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::kill;
use crate::session::mysql::last::Counts;
use crate::session::mysql::last::counts_of;
use crate::session::mysql::text::leaves_warnings;
use crate::session::mysql::text::without_own;
use crate::wire::mysql::command::Command;
use crate::wire::mysql::command::Execute;

/// A statement that was put on its link.
#[derive(Debug)]
pub(super) struct Usual {
    link: Link,
    passing: Passing,
    writes: bool,
    counts: Counts,
    /// A transaction was open when it was said.
    within: bool,
    /// The warnings of the one before stay, unless it has some of its own.
    leaves_warnings: bool,
}

/// How far it has come by itself.
#[derive(Debug)]
pub(super) enum Came {
    /// Its answer has ended, or will not.
    Through(Result<Ended, Broken>),
    /// The session is to stop what it does.
    Struck,
}

impl Usual {
    fn say(mut self, payload: &[u8]) -> Self {
        self.link.connection.say(payload);
        self.link.wrote |= self.writes;
        self
    }
}

impl Session {
    /// Puts a command on its link if it is usual; its answer is then to be taken with [`Self::poll_usual`].
    pub(super) fn put_usual(&mut self, payload: &[u8]) -> Option<Usual> {
        let turn = self.turn;
        let usual = match Command::read(payload, self.client.capabilities).ok()? {
            Command::Query(text) => self.put_query(text, payload),
            Command::Execute(execute) => self.put_execute(&execute),
            _ => None,
        };
        // Where any shard will do, the long way must come to the same one.
        if usual.is_none() {
            self.turn = turn;
        }
        usual
    }

    fn put_query(&mut self, text: &[u8], payload: &[u8]) -> Option<Usual> {
        // Its attributes are no server's.
        if text.len() + 1 != payload.len() {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let world = self.world().ok()?;
        // What is in a comment at its front may be the statement.
        if text.starts_with("/*") && world.bare(text).is_some() {
            return None;
        }
        if without_own(text).is_some() {
            return None;
        }
        let compiled = self.worker.planner.borrow_mut().compile(text, &world).ok()?;
        let [planned] = compiled.as_slice() else { return None };
        let behind = text.get(planned.range.end..)?.trim_start();
        if self.multi && behind.strip_prefix(';').is_some_and(|it| !it.trim().is_empty()) {
            return None;
        }
        Some(self.join_usual(text, planned, None, &world)?.say(payload))
    }

    fn put_execute(&mut self, execute: &Execute<'_>) -> Option<Usual> {
        let world = self.world().ok()?;
        let mut plain = self.prepared.plain(execute, world.id, &self.state.settings)?;
        let usual = {
            let (types, values) = plain.parameters();
            let parameters = Parameters { types: &types, values: &values };
            self.join_usual(&plain.text, &plain.planned, Some(&parameters), &world)?
        };
        match usual.link.connection.prepared.number(&plain.key) {
            Some(number) => Some(usual.say(plain.payload(number))),
            None => {
                self.leave(usual.link, usual.within);
                None
            }
        }
    }

    /// A link on which the statement can be said with nothing before it.
    fn join_usual(
        &mut self,
        text: &str,
        planned: &Planned,
        parameters: Option<&Parameters<'_>>,
        world: &World,
    ) -> Option<Usual> {
        let template = &*planned.template;
        let usual = self.map.timeouts.statement.is_zero()
            && template.is_plain()
            && matches!(template.tag, "SELECT" | "INSERT" | "REPLACE" | "UPDATE" | "DELETE")
            && template.effects.asks_session.is_none()
            && template.effects.assigns.is_empty()
            && template.altered.is_none()
            && self.last.first.is_none()
            && self.refuse_undone().is_ok();
        if !usual || self.used.as_ref()?.access.statement_max().is_some() {
            return None;
        }
        let counts = match planned.counts() {
            false => Counts::Told,
            // Rows tell no number.
            true if template.returns() => return None,
            true => {
                let numbering = planned.numbering(text, parameters, world);
                if numbering.as_ref().is_some_and(|it| it.by_proxy) {
                    return None;
                }
                counts_of(numbering.as_ref())
            }
        };
        if matches!(counts, Counts::Asked | Counts::AskedRows) {
            return None;
        }
        let shard = match planned.plan(text, parameters, world).ok()? {
            Plan::One(shard) => shard,
            Plan::Any => self.any_shard().ok()?,
            _ => return None,
        };
        let within = self.is_within();
        let link = if within { self.link_within(shard, template)? } else { self.link_outside(shard, template)? };
        let (has, wants) = (&link.connection.settings, &self.state.settings);
        if !Arc::ptr_eq(has, wants) && has != wants {
            self.leave(link, within);
            return None;
        }
        let writes = template.access == Access::Write;
        let leaves_warnings = leaves_warnings(text, template);
        Some(Usual { link, passing: Passing::new(), writes, counts, within, leaves_warnings })
    }

    /// Puts a link to which nothing was said back to where it was.
    fn leave(&mut self, link: Link, within: bool) {
        if within {
            self.links.push(link);
        } else if let Some(used) = &self.used {
            used.access.release(link);
        }
    }

    /// The session's only link, if that takes part in the open transaction and the statement can be said on it.
    fn link_within(&mut self, shard: ShardId, template: &Template) -> Option<Link> {
        let [link] = self.links.as_slice() else { return None };
        let joined = link.shard == shard && (link.begun || link.is_within());
        if !joined || (link.replica && !self.may_go_elsewhere(template)) {
            return None;
        }
        if !link.replica {
            self.note_use(shard);
        }
        self.links.pop()
    }

    /// A connection that is there, where no transaction is open nor begins.
    fn link_outside(&mut self, shard: ShardId, template: &Template) -> Option<Link> {
        if !self.links.is_empty() || self.transaction.has_modes() || !self.state.autocommit() {
            return None;
        }
        let access = Rc::clone(&self.used.as_ref()?.access);
        if !self.may_go_elsewhere(template) {
            self.note_effect();
            if access.has_choice(shard) {
                self.note_use(shard);
            }
            return access.primary_now(shard);
        }
        self.note_read();
        if !access.has_choice(shard) {
            return access.primary_now(shard);
        }
        // Of statements before this one in the same command.
        self.raise_floors();
        let fresh = Freshness { consistency: self.consistency(), floor: self.reads.floor(shard) };
        access.read_now(shard, fresh)
    }

    /// Says what is still to be said, and passes the answer on as far as it has come.
    pub(super) fn poll_usual(&mut self, cx: &mut Context<'_>, usual: &mut Usual) -> Poll<Came> {
        if let Poll::Ready(came) = usual.passing.poll(cx, &mut usual.link, &mut self.client) {
            return Poll::Ready(Came::Through(came));
        }
        // Whoever wants it to stop wakes this task.
        if self.ticket.entry.is_struck() { Poll::Ready(Came::Struck) } else { Poll::Pending }
    }

    /// Takes stock of a statement that has ended as most do; anything else is to be brought to its end.
    pub(super) fn passed(&mut self, usual: Usual, came: Came) -> Option<(Usual, Came)> {
        let Came::Through(Ok(ended)) = &came else { return Some((usual, came)) };
        let has_committed = usual.link.begun && !usual.link.is_within();
        if matches!(ended, Ended::Failed(_) | Ended::Refused(_)) || ended.warnings() > 0 || has_committed {
            return Some((usual, came));
        }
        self.note_number(usual.counts, ended);
        self.last.heard(ended);
        if !usual.leaves_warnings {
            self.warnings.clear();
        }
        let mut link = usual.link;
        link.connection.rest();
        self.keep(link);
        self.statement_ended();
        self.raise_floors();
        None
    }

    fn note_number(&mut self, counts: Counts, ended: &Ended) {
        if let Ended::Done(done) = ended
            && counts == Counts::Told
            && done.insert_id != 0
        {
            self.last.counted(done.insert_id);
        }
    }

    /// Brings a statement to its end that did not come to it by itself. False: the session ends.
    pub(super) async fn go_on(&mut self, mut usual: Usual, came: Came) -> bool {
        if !usual.within {
            self.held.add(&usual.link);
        }
        let (entry, held) = (Arc::clone(&self.ticket.entry), self.held.clone());
        let work = async {
            let passed = match came {
                Came::Through(passed) => passed,
                Came::Struck => {
                    let client = &mut self.client;
                    poll_fn(|cx| usual.passing.poll(cx, &mut usual.link, client)).await
                }
            };
            let result = match passed {
                Ok(ended) => self.has_ended(usual, &ended).await,
                Err(broken) => Err(self.has_broken(usual, broken).await),
            };
            self.told(result)
        };
        Box::pin(kill::stoppable(&entry, &held, work)).await
    }

    async fn has_ended(&mut self, usual: Usual, ended: &Ended) -> Result<(), Trouble> {
        self.note_number(usual.counts, ended);
        self.ended(vec![usual.link], ended, usual.leaves_warnings).await?;
        if matches!(ended, Ended::Failed(_) | Ended::Refused(_)) { Err(Trouble::Told) } else { Ok(()) }
    }

    async fn has_broken(&mut self, usual: Usual, broken: Broken) -> Trouble {
        let trouble = self.lost_on(broken, &usual.link, usual.within, usual.writes);
        let (pinned, within) = (usual.link.pinned, usual.within);
        drop(usual);
        self.broke(trouble, pinned, within).await
    }
}
