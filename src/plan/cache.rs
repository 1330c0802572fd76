//! Texts → templates, kept by their normalized bytes; texts without literals also as they stand.
//!
//! Both caches are bounded and belong to one thread. A hit allocates nothing. A text with literals is seldom said twice:
//! keeping it would cost more than reading it again.

use std::collections::HashMap;
use std::hash::Hash;
use std::hash::Hasher;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use quick_cache::Equivalent;
use quick_cache::UnitWeighter;
use quick_cache::unsync::Cache;
use quick_cache::unsync::DefaultLifecycle;
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
    texts: Cached<Kept>,
    templates: Cached<Rc<Template>>,
    lexed: Lexed,
}

type Cached<V> = Cache<Entry, V, UnitWeighter, RandomState>;

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

fn cache<V: Clone>(items: usize) -> Cached<V> {
    let weight = items as u64;
    Cache::with(items, weight, UnitWeighter, RandomState::default(), DefaultLifecycle::default())
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
            texts: cache(templates_max),
            templates: cache(templates_max),
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
        let world = Rc::new(World::new(self.next_world, Arc::clone(database), Arc::clone(schema), view.clone()));
        self.next_world = self.next_world.wrapping_add(1);
        self.worlds.insert(key, Rc::clone(&world));
        world
    }

    /// Where the statements of a text stand, in bytes; none: the text cannot be read.
    pub fn pieces(&mut self, text: &str) -> Vec<Range<usize>> {
        match self.lexed.read(text) {
            Ok(()) => self.lexed.pieces.iter().map(|piece| piece.range.clone()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Where the statements of a text stand, in bytes, as the world's engine cuts them: for sessions of MySQL, which
    /// carry out what stands before a statement that is refused. Behind a SET of sql_mode or of a character set the rest
    /// of the text is to be cut anew, as a server does.
    ///
    /// # Errors
    /// The text cannot be cut.
    pub fn statements(&mut self, text: &str, world: &World) -> Result<Vec<Range<usize>>, ClientError> {
        self.cut(text, world)?;
        Ok(self.lexed.pieces.iter().map(|piece| piece.range.clone()).collect())
    }

    fn cut(&mut self, text: &str, world: &World) -> Result<(), ClientError> {
        let read = match world.mysql {
            None => self.lexed.read(text),
            Some(mode) => self.lexed.read_mysql(text, mode),
        };
        read.map_err(|invalid| {
            let character = text.get(..invalid.at).map_or(0, |before| before.chars().count()) + 1;
            ClientError::new(
                Code::Unreadable,
                "the statement's text cannot be read",
                "Look for a quote or comment that is not closed.",
            )
            .at(u32::try_from(character).ok())
        })
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
        self.cut(text, world)?;
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
            // No string of MySQL is a time by the clock.
            let read = world.mysql.is_some();
            planned.push(Planned { range: piece.range.clone(), template, literals: literals.into(), read });
        }
        if short && self.lexed.literals.is_empty() {
            self.texts.insert(Entry { world: world.id, bytes: text.as_bytes().into() }, Rc::new(planned.clone()));
        }
        Ok(planned)
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::plan::Access;
    use crate::plan::Plan;
    use crate::shard_map::NoEnvironment;
    use crate::shard_map::ShardMap;

    const MAP: &str = "
version: 1
listen: {postgres: 127.0.0.1:6432}
databases:
  shop:
    shards: {s1: [127.0.0.1:6501], s2: [127.0.0.1:6502]}
    groups: {user: {key: bigint, tables: {users: id, orders: user_id}}}
users: {app: {auth: trust}}
";

    /// As `shardway explain` has it: the schema is what the map says.
    fn bench() -> (Planner, Rc<World>) {
        let (map, _) = ShardMap::parse("map.yaml", MAP, &NoEnvironment).unwrap();
        let database = map.databases["shop"].clone();
        let schema = crate::plan::assumed_schema(&database);
        let view = SessionView::plain("app");
        let mut planner = Planner::new(100);
        let world = planner.world(&database, &Arc::new(schema), &view);
        (planner, world)
    }

    fn plan(planner: &mut Planner, world: &Rc<World>, text: &str) -> Result<Plan, ClientError> {
        planner.compile(text, world)?[0].plan(text, None, world)
    }

    #[test]
    fn texts_that_differ_in_literals_share_a_template() {
        let (mut planner, world) = bench();
        let mut shards = std::collections::BTreeSet::new();
        for id in 0..50 {
            let text = format!("SELECT * FROM users WHERE id = {id}");
            let Plan::One(shard) = plan(&mut planner, &world, &text).unwrap() else { panic!("{text}") };
            shards.insert(shard);
        }
        assert_eq!(shards.len(), 2);
        assert_eq!(planner.templates.len(), 1);
        // A string is another kind of literal, and has its own.
        plan(&mut planner, &world, "SELECT * FROM users WHERE id = '7'").unwrap();
        assert_eq!(planner.templates.len(), 2);
    }

    #[test]
    fn inserts_of_any_number_of_rows_share_a_template() {
        let (mut planner, world) = bench();
        for rows in 2..20 {
            let rows: Vec<String> = (0..rows).map(|row| format!("({row}, 7)")).collect();
            let text = format!("INSERT INTO orders (id, user_id) VALUES {} RETURNING id + 1", rows.join(", "));
            assert!(matches!(plan(&mut planner, &world, &text).unwrap(), Plan::One(_)), "{text}");
        }
        assert_eq!(planner.templates.len(), 1);
        // The last of many rows decides as the first does.
        let mut rows: Vec<String> = (0..30).map(|row| format!("({row}, 7)")).collect();
        let seven = plan(&mut planner, &world, "SELECT * FROM users WHERE id = 7").unwrap();
        let other = (0..)
            .find(|id| plan(&mut planner, &world, &format!("SELECT * FROM users WHERE id = {id}")).unwrap() != seven);
        rows.push(format!("(30, {})", other.unwrap()));
        let text = format!("INSERT INTO orders (id, user_id) VALUES {}", rows.join(", "));
        let Plan::Split(split) = plan(&mut planner, &world, &text).unwrap() else { panic!("one shard") };
        assert_eq!((split.shards.len(), split.rows), (2, [vec![0; 30], vec![1]].concat()));
    }

    #[test]
    fn another_world_shares_nothing() {
        let (mut planner, world) = bench();
        plan(&mut planner, &world, "SELECT * FROM users WHERE id = 7").unwrap();
        let view = SessionView { search_path: "nowhere".into(), ..world.view.clone() };
        let other = planner.world(&world.database, &world.schema, &view);
        assert_ne!(world.id, other.id);
        assert!(plan(&mut planner, &other, "SELECT * FROM users WHERE id = 7").is_err());
        let same = planner.world(&world.database, &world.schema, &world.view);
        assert!(Rc::ptr_eq(&same, &world));
    }

    #[test]
    fn offline_a_column_belongs_to_the_only_table_that_could_have_it() {
        let (mut planner, world) = bench();
        assert!(matches!(plan(&mut planner, &world, "SELECT * FROM users WHERE id = 7").unwrap(), Plan::One(_)));
        let joined = "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 7";
        assert!(matches!(plan(&mut planner, &world, joined).unwrap(), Plan::One(_)));
        let unclear = "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE id = 7";
        assert!(matches!(plan(&mut planner, &world, unclear).unwrap(), Plan::Concat(_)));
    }

    #[test]
    fn deep_and_long_statements_are_planned_or_refused_without_harm() {
        let (mut planner, world) = bench();
        let deep =
            |open: &str, close: &str, times: usize| format!("SELECT {}1{}", open.repeat(times), close.repeat(times));
        for times in [10, 60, 150, 1000, 100_000] {
            let _ = planner.compile(&deep("(", ")", times), &world);
            let _ = planner.compile(&deep("(SELECT ", ")", times), &world);
            let _ = planner.compile(&deep("abs(", ")", times), &world);
            let _ = planner.compile(&deep("- ", "", times), &world);
            let _ = planner.compile(&deep("NOT ", "", times), &world);
            let _ = planner.compile(&deep("ARRAY[", "]", times), &world);
            let _ = planner.compile(&deep("CASE WHEN true THEN ", " END", times), &world);
            let _ = planner.compile(&format!("SELECT * FROM users WHERE id = 1{}", " OR id = 1".repeat(times)), &world);
            let _ = planner.compile(&format!("SELECT 1{}", " + 1".repeat(times)), &world);
            let _ = planner.compile(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(times)), &world);
            let _ = planner.compile(&format!("SELECT 'a'{}", "::text".repeat(times)), &world);
            let _ = planner.compile(&format!("SELECT * FROM users{}", " JOIN orders ON true".repeat(times)), &world);
            let _ = planner
                .compile(&format!("SELECT {}1{}", "(SELECT * FROM (".repeat(times), ") x)".repeat(times)), &world);
        }
        // As long a chain as is read at all.
        let _ = planner.compile(&format!("SELECT 1{}", "+1".repeat(24_000)), &world);
        let _ = planner.compile(&format!("SELECT * FROM users WHERE id=1{}", " or a".repeat(24_000)), &world);
        assert!(matches!(plan(&mut planner, &world, &deep("(", ")", 60)).unwrap(), Plan::Any));
        assert!(plan(&mut planner, &world, &deep("(", ")", 100_000)).is_err());
    }

    #[test]
    fn ctes_that_double_are_refused_in_time() {
        let (mut planner, world) = bench();
        let mut text = "WITH a0 AS (SELECT 1)".to_owned();
        for n in 1..40 {
            text.push_str(&format!(", a{n} AS (SELECT * FROM a{0} x, a{0} y)", n - 1));
        }
        text.push_str(" SELECT * FROM a39");
        assert_eq!(planner.compile(&text, &world).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn mutated_statements_never_panic() {
        let (mut planner, world) = bench();
        let seeds = [
            "SELECT u.id, count(*) FROM users u LEFT JOIN orders o USING (id) WHERE u.id IN (1, '2', $3) GROUP BY 1 ORDER BY 2 LIMIT 5",
            "INSERT INTO users AS u (id, name) VALUES (1, 'a'), (2, $1) ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *",
            "WITH x AS (DELETE FROM orders WHERE user_id = 5 RETURNING *) UPDATE users SET name = 'x' FROM x WHERE users.id = x.id",
            "CREATE TABLE users (id bigint PRIMARY KEY, x text REFERENCES orders (id), UNIQUE (id, x))",
            "SET LOCAL search_path TO a, 'b'; BEGIN ISOLATION LEVEL SERIALIZABLE; EXECUTE p (1, f(2)); FETCH 3 FROM c",
            "COPY (SELECT * FROM users WHERE id = ANY ('{1,2}')) TO STDOUT; EXPLAIN (ANALYZE) SELECT 1; GRANT SELECT ON users TO x",
        ];
        let pieces =
            ["(", ")", ",", "'", "\"", ";", "SELECT", "FROM", "$1", "::", "NULL", "ON", "é", "/*", "--", ".", "*"];
        let mut state = 0x1234_5678_9ABC_DEF1_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..3000 {
            let mut words: Vec<&str> = seeds[random(seeds.len())].split(' ').collect();
            for _ in 0..=random(4) {
                let at = random(words.len());
                match random(4) {
                    0 => {
                        words.remove(at);
                    }
                    1 => words.insert(at, pieces[random(pieces.len())]),
                    2 => words[at] = pieces[random(pieces.len())],
                    _ => {
                        let other = random(words.len());
                        words.swap(at, other);
                    }
                }
                if words.is_empty() {
                    words.push("x");
                }
            }
            let text = words.join(" ");
            if let Ok(planned) = planner.compile(&text, &world) {
                for one in planned {
                    let _ = one.plan(&text, None, &world).map(|plan| one.explain(&text, &plan, &world));
                }
            }
        }
    }

    #[test]
    fn access_is_known_before_the_plan() {
        let (mut planner, world) = bench();
        let mut access = |text: &str| planner.compile(text, &world).unwrap()[0].template.access;
        assert_eq!(access("SELECT * FROM users WHERE id = 7"), Access::Read);
        assert_eq!(access("SELECT * FROM pg_class"), Access::ReadPrimary);
        assert_eq!(access("SELECT * FROM users WHERE id = 7 FOR SHARE"), Access::Write);
        assert_eq!(access("WITH x AS (DELETE FROM users WHERE id = 7) SELECT 1"), Access::Write);
    }
}
