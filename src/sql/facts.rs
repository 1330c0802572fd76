//! What must be true of a row of one leaf for it to matter: conditions closed over joins, subqueries and equalities.
//!
//! Assume that a row of leaf T is part of a combined row that survives. Then WHERE holds; every join above T was made
//! with a real row on T's side, so its ON holds; columns that these conditions bind are not NULL, so the leaves they
//! belong to are real too, and the outer joins that would have filled them with NULL hold as well; and so on until
//! nothing new follows. A row of T that contradicts the result cannot change the answer: it would have to survive, or
//! to keep another row from being filled with NULLs, and such a filled row fails the same conditions, since none of
//! them holds for NULL.
//!
//! IS NULL is no such condition: it holds for filled rows. `plan` takes it only for leaves that are there in any case.

use std::collections::BTreeSet;

use crate::sql::model::BlockId;
use crate::sql::model::Condition;
use crate::sql::model::ConditionId;
use crate::sql::model::LeafId;
use crate::sql::model::Node;
use crate::sql::model::NodeId;
use crate::sql::model::Query;
use crate::sql::model::Source;
use crate::sql::model::Stands;
use crate::sql::model::VariableId;

/// What follows for one leaf (or for a whole block).
#[derive(Debug)]
pub struct Facts {
    classes: Vec<VariableId>,
    active: BTreeSet<ConditionId>,
    real: BTreeSet<LeafId>,
}

impl Query {
    /// What holds when a row of `leaf` matters.
    #[must_use]
    pub fn facts_of(&self, leaf: LeafId) -> Facts {
        let block = self.leaves.get(leaf).map_or(0, |it| it.block);
        self.close(block, Some(leaf))
    }

    /// What holds for every row of a block's answer.
    #[must_use]
    pub fn facts_in(&self, block: BlockId) -> Facts {
        self.close(block, None)
    }

    fn close(&self, block: BlockId, leaf: Option<LeafId>) -> Facts {
        let mut closing = Closing {
            query: self,
            chain: Vec::new(),
            present: vec![false; self.nodes.len()],
            facts: Facts {
                classes: (0..self.variables.len()).collect(),
                active: BTreeSet::new(),
                real: BTreeSet::new(),
            },
            changed: true,
        };
        // The block and those around it; links inward hold along the chain as long as each lets conditions in.
        let mut next = Some(block);
        while let Some(id) = next {
            let Some(it) = self.blocks.get(id) else { break };
            if closing.chain.contains(&id) {
                break;
            }
            closing.chain.push(id);
            closing.enter(it.root);
            // An aggregate without groups makes a row of none: what is asked for that row is asked in any case.
            let parent = it.parent.and_then(|parent| self.blocks.get(parent));
            let unbound = match it.stands {
                Stands::Within => false,
                Stands::Behind => parent.is_some_and(|it| it.aggregated && !it.groups),
                Stands::Beside => true,
            };
            if it.host.is_none() && unbound {
                break;
            }
            for link in it.links.iter().filter(|link| link.inward) {
                closing.facts.unite(link.outer, link.inner);
            }
            if let Some(host) = it.host {
                closing.make_real(host);
            }
            next = it.parent;
        }
        if let Some(leaf) = leaf {
            closing.make_real(leaf);
        }
        while closing.changed {
            closing.changed = false;
            for id in closing.chain.clone() {
                if let Some(it) = self.blocks.get(id) {
                    closing.visit(it.root, 0);
                }
            }
        }
        closing.facts
    }
}

struct Closing<'a> {
    query: &'a Query,
    chain: Vec<BlockId>,
    present: Vec<bool>,
    facts: Facts,
    changed: bool,
}

impl Closing<'_> {
    fn enter(&mut self, node: NodeId) {
        if let Some(present) = self.present.get_mut(node)
            && !*present
        {
            *present = true;
            self.changed = true;
        }
    }

    fn is_present(&self, node: NodeId) -> bool {
        self.present.get(node).copied().unwrap_or(false)
    }

    fn make_real(&mut self, leaf: LeafId) {
        if self.facts.real.insert(leaf) {
            self.changed = true;
        }
    }

    fn activate(&mut self, on: &[ConditionId]) {
        for id in on {
            if !self.facts.active.insert(*id) {
                continue;
            }
            self.changed = true;
            match self.query.conditions.get(*id) {
                Some(Condition::Same(a, b)) => {
                    self.facts.unite(*a, *b);
                    self.real_variable(*a);
                    self.real_variable(*b);
                }
                Some(Condition::Is(it, _) | Condition::AnyOf(it, _) | Condition::Range(it, _, _)) => {
                    self.real_variable(*it);
                }
                Some(Condition::Real(leaves)) => {
                    for leaf in leaves {
                        self.make_real(*leaf);
                    }
                }
                Some(Condition::Null(_) | Condition::Never) | None => {}
            }
        }
    }

    fn real_variable(&mut self, variable: VariableId) {
        if let Some(it) = self.query.variables.get(variable) {
            self.make_real(it.leaf);
        }
    }

    /// One pass over a tree; says whether a real leaf stands in it.
    fn visit(&mut self, node: NodeId, depth: usize) -> bool {
        if depth > 512 {
            return false;
        }
        let query = self.query;
        let real = match query.nodes.get(node) {
            None => false,
            Some(Node::Leaf(leaf)) => {
                if self.is_present(node) {
                    self.make_real(*leaf);
                }
                let real = self.facts.real.contains(leaf);
                if real {
                    self.look_into(*leaf, depth);
                }
                real
            }
            Some(Node::Inner { children, on }) => {
                let mut real = false;
                for child in children {
                    real |= self.visit(*child, depth + 1);
                }
                if real || self.is_present(node) {
                    self.activate(on);
                    for child in children {
                        self.enter(*child);
                    }
                }
                real
            }
            Some(Node::Outer { kept, optional, on }) => {
                let left = self.visit(*kept, depth + 1);
                let right = self.visit(*optional, depth + 1);
                if right || self.is_present(*optional) {
                    self.enter(*optional);
                    self.activate(on);
                }
                if left || right || self.is_present(node) {
                    self.enter(*kept);
                }
                left || right
            }
            Some(Node::Full { left, right, on }) => {
                let one = self.visit(*left, depth + 1);
                let other = self.visit(*right, depth + 1);
                if one {
                    self.enter(*left);
                }
                if other {
                    self.enter(*right);
                }
                if one && other {
                    self.activate(on);
                }
                one || other
            }
        };
        if real {
            self.enter(node);
        }
        real
    }

    /// A real row of a derived table comes from a real row inside.
    fn look_into(&mut self, leaf: LeafId, depth: usize) {
        let query = self.query;
        let Some(Source::Derived(blocks)) = query.leaves.get(leaf).map(|it| &it.source) else { return };
        let [block] = blocks.as_slice() else { return };
        if self.chain.contains(block) {
            return;
        }
        let Some(it) = query.blocks.get(*block) else { return };
        // Its row may come from no row at all.
        if it.aggregated && !it.groups {
            return;
        }
        if it.links.iter().any(|link| link.outward) {
            self.enter(it.root);
            self.visit(it.root, depth + 1);
            for link in it.links.iter().filter(|link| link.outward) {
                if self.facts.unite(link.outer, link.inner) {
                    self.changed = true;
                }
            }
        }
    }
}

impl Facts {
    fn find(&self, variable: VariableId) -> VariableId {
        let mut place = variable;
        while let Some(next) = self.classes.get(place)
            && *next != place
        {
            place = *next;
        }
        place
    }

    fn unite(&mut self, a: VariableId, b: VariableId) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return false;
        }
        if let Some(slot) = self.classes.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
        true
    }

    /// Whether both columns hold the same value.
    #[must_use]
    pub fn same(&self, a: VariableId, b: VariableId) -> bool {
        self.find(a) == self.find(b)
    }

    /// Whether a row of the leaf is certainly there.
    #[must_use]
    pub fn is_real(&self, leaf: LeafId) -> bool {
        self.real.contains(&leaf)
    }

    /// The conditions that hold, in the order of the statement.
    pub fn conditions(&self) -> impl Iterator<Item = ConditionId> + '_ {
        self.active.iter().copied()
    }
}
