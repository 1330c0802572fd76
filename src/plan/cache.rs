//! Texts → templates, kept: first by the exact text, then by its normalized bytes.
//!
//! Both caches are bounded and belong to one thread. A hit allocates nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use quick_cache::Equivalent;
use quick_cache::unsync::Cache;
use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::plan::Planned;
use crate::plan::SessionView;
use crate::plan::Template;
use crate::plan::World;
use crate::schema::Schema;
use crate::shard_map::Database;
use crate::sql::Source;
use crate::sql::lex::Lexed;

/// Texts longer than this are found by their normalized bytes only.
const TEXT_MAX: usize = 2048;
/// Normalized statements longer than this are not kept.
const NORMALIZED_MAX: usize = 64 * 1024;
/// Worlds that nobody holds are dropped beyond this number.
const WORLDS_MAX: usize = 512;

/// Compiles texts and keeps what it compiled. One per runtime thread.
pub struct Planner {
    worlds: HashMap<WorldKey, Rc<World>, RandomState>,
    next_world: u32,
    texts: Cache<Entry, Kept>,
    templates: Cache<Entry, Rc<Template>>,
    lexed: Lexed,
}

type Kept = Rc<SmallVec<[Planned; 1]>>;

#[derive(PartialEq, Eq, Hash)]
struct WorldKey {
    database: usize,
    schema: usize,
    view: SessionView,
}

/// What a compiled text is found by.
#[derive(PartialEq, Eq)]
struct Entry {
    world: u32,
    bytes: Box<[u8]>,
}

/// The same, borrowed.
struct Wanted<'a> {
    world: u32,
    bytes: &'a [u8],
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.world);
        state.write(&self.bytes);
    }
}

impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.world);
        state.write(self.bytes);
    }
}

impl Equivalent<Entry> for Wanted<'_> {
    fn equivalent(&self, key: &Entry) -> bool {
        self.world == key.world && *self.bytes == *key.bytes
    }
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner")
            .field("worlds", &self.worlds.len())
            .field("texts", &self.texts.len())
            .field("templates", &self.templates.len())
            .finish_non_exhaustive()
    }
}

impl Planner {
    /// A planner that keeps at most `templates_max` templates.
    #[must_use]
    pub fn new(templates_max: usize) -> Self {
        let templates_max = templates_max.max(1);
        Self {
            worlds: HashMap::default(),
            next_world: 0,
            texts: Cache::new(templates_max),
            templates: Cache::new(templates_max),
            lexed: Lexed::default(),
        }
    }

    /// The world of these, interned: the same `Rc` as long as nothing changed.
    pub fn world(&mut self, database: &Arc<Database>, schema: &Arc<Schema>, view: &SessionView) -> Rc<World> {
        // The kept worlds hold both, so that no address is given to another while its key stands here.
        let key =
            WorldKey { database: Arc::as_ptr(database).addr(), schema: Arc::as_ptr(schema).addr(), view: view.clone() };
        if let Some(world) = self.worlds.get(&key) {
            return Rc::clone(world);
        }
        if self.worlds.len() >= WORLDS_MAX {
            self.worlds.retain(|_, world| Rc::strong_count(world) > 1);
        }
        let world = Rc::new(World {
            id: self.next_world,
            database: Arc::clone(database),
            schema: Arc::clone(schema),
            view: view.clone(),
        });
        self.next_world = self.next_world.wrapping_add(1);
        self.worlds.insert(key, Rc::clone(&world));
        world
    }

    /// Splits and compiles a whole text (one simple Query, or one Parse). Templates are cached by normalized text, so
    /// that texts that differ only in literals share one.
    ///
    /// # Errors
    /// The refusal of the first statement that can have no plan, whatever its values.
    pub fn compile(&mut self, text: &str, world: &Rc<World>) -> Result<SmallVec<[Planned; 1]>, ClientError> {
        let short = text.len() <= TEXT_MAX;
        if short && let Some(found) = self.texts.get(&Wanted { world: world.id, bytes: text.as_bytes() }) {
            return Ok((**found).clone());
        }
        if let Err(invalid) = self.lexed.read(text) {
            let character = text.get(..invalid.at).map_or(0, |before| before.chars().count()) + 1;
            return Err(ClientError::new(
                Code::Unreadable,
                "the statement's text cannot be read",
                "Look for a quote or comment that is not closed.",
            )
            .at(u32::try_from(character).ok()));
        }
        let mut planned: SmallVec<[Planned; 1]> = SmallVec::new();
        for piece in &self.lexed.pieces {
            let normalized = self.lexed.normalized.get(piece.normalized.clone()).unwrap_or_default();
            let literals = self.lexed.literals.get(piece.literals.clone()).unwrap_or_default();
            let wanted = Wanted { world: world.id, bytes: normalized };
            let statement = text.get(piece.range.clone()).unwrap_or_default();
            let known = self
                .templates
                .get(&wanted)
                .filter(|template| template.prefix.as_deref().is_none_or(|prefix| statement.starts_with(prefix)));
            let template = match known {
                Some(template) => Rc::clone(template),
                None => {
                    let source = Source { text, piece, literals };
                    let (template, exact_only) = Template::compile(&source, world)?;
                    let template = Rc::new(template);
                    if !exact_only && normalized.len() <= NORMALIZED_MAX {
                        self.templates
                            .insert(Entry { world: world.id, bytes: normalized.into() }, Rc::clone(&template));
                    }
                    template
                }
            };
            planned.push(Planned { range: piece.range.clone(), template, literals: literals.into() });
        }
        if short {
            self.texts.insert(Entry { world: world.id, bytes: text.as_bytes().into() }, Rc::new(planned.clone()));
        }
        Ok(planned)
    }
}
