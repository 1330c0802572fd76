//! Every word that Postgres or the parser here takes for something special, without quotes in every place of a SELECT
//! that spans shards: whatever the plain server reads there, the proxy reads too, or refuses.
//!
//! Both have lists of keywords of their own. A column that is called as a keyword of the parser only, or a keyword
//! that the parser takes for a name, would be answered as another statement than the one that was asked.
//! `SHARDWAY_SPREAD_WORDS=all` asks all of them, a number another share.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;

use sqlparser::keywords::ALL_KEYWORDS;

use super::compare::Order;
use super::compare::Verdict;
use super::compare::compare;
use super::rig::More;
use super::rig::Rig;
use super::rig::Way;
use super::wire::Client;
use super::wire::How;
use super::world::Lies;

/// Of the statements one in this many is asked.
const SHARE: u64 = 8;
/// Of what the plain server answers, so many in a hundred are answered by the proxy at least.
const ANSWERED_MIN: usize = 98;
/// How many words are columns of one table: its width costs time in each statement.
const WIDTH: usize = 60;
const ROWS: usize = 12;
/// How many words a line about a place shows.
const SHOWN: usize = 40;

const WAY: Way =
    Way { database: Some(1), how: How::Simple, binary: false, gather: false, profile: 0, in_transaction: false };

/// Names of types, which the parser knows some of and Postgres others.
const TYPES: &str = "bit bool bool_and boolean box bpchar bytea bytes bytes_length bytea_output char cidr circle clob \
    daterange datetime datetime64 date dec double double_precision enum fixedstring float float32 float4 float64 float8 \
    geometry hstore hugeint inet int int128 int16 int2 int256 int32 int4 int4range int64 int8 interval json jsonb \
    jsonpath line lowcardinality lseg ltree macaddr map money mediumblob mediumint mediumtext name nchar nested ntext \
    nullable numeric nvarchar oid path pg_lsn point polygon real record regclass regtype row serial set signed smallint \
    string struct table text tid time time_ns timestamp timestamp_ntz timestamptz timetz tinyblob tinyint tinytext \
    trigger tsmultirange tsquery tsrange tsvector tuple txid_snapshot ubigint uhugeint uint128 uint16 uint2 uint256 \
    uint32 uint4 uint64 uint8 uinteger union unknown unsigned usmallint utinyint uuid varbinary varbit varchar varchar2 \
    variant varint vector void xid xml year";

/// Words that neither list has, and that are something special in some place of some dialect all the same.
const MORE: &str = "avg count max min sum every lower upper length now random current_setting generate_series unnest \
    ctes pivot rollup qualify dual sysdate rownum level prior connect top limit_by sample prewhere ilike rlike regexp \
    glob div mod xor divide isnull notnull ifnull nvl iif if oldest excluded new old value sounds binary straight_join \
    minus semi anti asof positional lateral tablesample matched epoch century dow microseconds week quarter leading";

/// What no two servers say alike.
const VARYING: [&str; 7] =
    ["current_catalog", "current_time", "current_timestamp", "localtime", "localtimestamp", "now()", "random()"];

/// Where words stand: `@` is the word, `@@` another one, `#` the table, whose columns are words.
const PLACES: &[&str] = &[
    // A value.
    "SELECT @ FROM #",
    "SELECT (@) FROM #",
    "SELECT -@ FROM #",
    "SELECT + @ FROM #",
    "SELECT @ FROM # WHERE id = 2",
    "SELECT t.@ FROM # t",
    "SELECT t.@ - 1, -t.@ FROM # t WHERE t.@ = 1",
    "SELECT id, @ FROM #",
    "SELECT @, id FROM #",
    "SELECT @, @@ FROM #",
    "SELECT @ - 1 FROM #",
    "SELECT @ + id FROM #",
    "SELECT @ * 2 FROM #",
    "SELECT @ / 2 FROM #",
    "SELECT @ || 'x' FROM #",
    "SELECT id + @ FROM #",
    "SELECT id - @ FROM #",
    "SELECT id * @ AS x FROM #",
    "SELECT n % @ FROM # WHERE n > 0",
    "SELECT 1 - @ AS a, @ - id AS b FROM #",
    "SELECT @ -1, 2 FROM #",
    "SELECT @ <> 1 FROM #",
    "SELECT @::text FROM #",
    "SELECT @::text || @ FROM #",
    "SELECT -@::numeric FROM #",
    "SELECT CAST(@ AS text) FROM #",
    "SELECT @ IS NULL FROM #",
    "SELECT @ ISNULL FROM #",
    "SELECT @ NOTNULL AND ok FROM #",
    "SELECT @ IS DISTINCT FROM 1 FROM #",
    "SELECT @ BETWEEN 1 AND 3 FROM #",
    "SELECT 2 BETWEEN @ AND @ + 3 FROM #",
    "SELECT @ IN (1, 2) FROM #",
    "SELECT 1 IN (@, id) FROM #",
    "SELECT @ NOT IN (1, 2) FROM #",
    "SELECT @::text LIKE '1%' FROM #",
    "SELECT 'a' COLLATE @ FROM #",
    "SELECT @ COLLATE \"C\" FROM #",
    "SELECT @ AT TIME ZONE 'UTC' FROM #",
    "SELECT @ = ANY (ARRAY[1, 2]) FROM #",
    "SELECT ARRAY[@, 1] FROM #",
    "SELECT ROW(@, 1) FROM #",
    "SELECT (@, 1) = (1, 1) FROM #",
    "SELECT @ [1] FROM #",
    "SELECT (ARRAY[4, 5, 6])[@] FROM #",
    "SELECT (ARRAY[4, 5, 6])[@:3] FROM #",
    "SELECT @ 'x' FROM #",
    "SELECT @ '1' FROM #",
    "SELECT @ '1' AS x, id FROM #",
    "SELECT @ '1', count(*) FROM # GROUP BY 1",
    "SELECT DISTINCT @ '1' FROM #",
    "SELECT \"@\" '1', count(*) FROM # GROUP BY 1",
    "SELECT pg_catalog.@ '1', count(*) FROM # GROUP BY 1",
    "SELECT count(*), @ '1' AS x FROM # GROUP BY 2",
    "SELECT @ '(1,1)', count(*) FROM # GROUP BY 1",
    "SELECT max(id) FROM # GROUP BY @ '1'",
    "SELECT id FROM # WHERE id = 3 OR @ '1' IS NULL",
    "SELECT @ \"Q\" FROM #",
    "SELECT @ \"Q\", count(*) FROM # GROUP BY 1",
    "SELECT @ (1) FROM #",
    "SELECT @(id) FROM #",
    "SELECT @ (n::integer) FROM # WHERE id = 2",
    "SELECT @() FROM #",
    "SELECT @(*) FROM #",
    "SELECT @(id, n) FROM #",
    "SELECT @ (3) '1' FROM #",
    "SELECT abs(@) FROM #",
    "SELECT coalesce(@, 1), @ FROM #",
    "SELECT make_interval(@ => 1) FROM #",
    "SELECT make_date(2001, @ := 1, day => 2) FROM #",
    "SELECT count(@) FROM #",
    "SELECT count(DISTINCT @) FROM #",
    "SELECT count(ALL @) FROM #",
    "SELECT ok, sum(@) FROM # GROUP BY ok",
    "SELECT sum(-@) FROM #",
    "SELECT max(@ + id) FROM #",
    "SELECT array_agg(@ ORDER BY @, id) FROM #",
    "SELECT array_agg(id ORDER BY @ DESC, id) FROM #",
    "SELECT count(*) FILTER (WHERE @ = 1) FROM #",
    "SELECT string_agg(@::text, ',' ORDER BY id) FROM #",
    "SELECT @, count(*) FROM # GROUP BY @",
    "SELECT @ - 1, count(*) FROM # GROUP BY @ - 1",
    "SELECT count(*) FROM # GROUP BY @, ok",
    "SELECT count(*) FROM # GROUP BY ROLLUP (@)",
    "SELECT count(*) FROM # GROUP BY GROUPING SETS ((@), (ok))",
    "SELECT count(*) FROM # GROUP BY ok HAVING sum(@) > 20",
    "SELECT count(*) FROM # GROUP BY @ HAVING @ > 1",
    "SELECT DISTINCT @ FROM #",
    "SELECT ALL @ FROM #",
    "SELECT DISTINCT ON (@) @ FROM # ORDER BY @, id",
    "SELECT id FROM # ORDER BY @, id",
    "SELECT id FROM # ORDER BY @ DESC, id LIMIT 2",
    "SELECT id FROM # ORDER BY @ NULLS FIRST, id LIMIT 3",
    "SELECT id FROM # ORDER BY -@, id LIMIT 2",
    "SELECT id, @ FROM # ORDER BY @ + 1, id OFFSET 3",
    "SELECT CASE WHEN @ = 1 THEN @ ELSE 0 END FROM #",
    "SELECT CASE @ WHEN 1 THEN 2 ELSE @ END FROM #",
    "SELECT CASE WHEN ok THEN id ELSE @ END FROM #",
    "SELECT id FROM # WHERE @ = 1",
    "SELECT id FROM # WHERE 1 = @",
    "SELECT id FROM # WHERE @ = 1 AND id > 0",
    "SELECT id FROM # WHERE id > 0 AND @ = 1",
    "SELECT id FROM # WHERE ok OR @ = 1",
    "SELECT id FROM # WHERE NOT @ = 1",
    "SELECT id FROM # WHERE id = 2 AND @ = 1",
    "SELECT id FROM # WHERE id = 2 OR @ = 1",
    "SELECT id FROM # WHERE id IN (2, @)",
    "SELECT id FROM # WHERE id = @",
    "SELECT id FROM # WHERE id BETWEEN @ AND 5",
    "SELECT id FROM # WHERE id = 2 @",
    "SELECT id FROM # WHERE id = 2 AND ok @",
    "SELECT id FROM # WHERE id @ 2",
    "SELECT id FROM # WHERE id @ (2)",
    "SELECT id FROM # WHERE @ (id = 2)",
    "SELECT id FROM # WHERE @ id = 2",
    "SELECT id FROM # WHERE id = @ (2)",
    "SELECT id FROM # WHERE id = @ '2'",
    "SELECT id FROM # WHERE id IS @",
    "SELECT id FROM # WHERE id IS NOT @",
    "SELECT id FROM # WHERE (@) IN (SELECT o.n FROM words_other o)",
    "SELECT id FROM # WHERE @ IN (SELECT o.n FROM words_other o WHERE o.n <> @)",
    "SELECT id FROM # WHERE EXISTS (SELECT @ FROM words_other o WHERE o.n = @)",
    "SELECT (SELECT @) FROM #",
    "SELECT @ FROM # UNION SELECT n FROM words_other",
    "SELECT n FROM words_other UNION ALL SELECT @ FROM #",
    "SELECT @ FROM # EXCEPT SELECT 1",
    // The name of an output.
    "SELECT id AS @ FROM #",
    "SELECT id @ FROM #",
    "SELECT id @, n FROM #",
    "SELECT n + 1 @ FROM #",
    "SELECT (n) @ FROM #",
    "SELECT 1 @, id FROM #",
    "SELECT 'a' @, id FROM #",
    "SELECT NULL @, id FROM #",
    "SELECT n::integer @ FROM #",
    "SELECT n::text @ FROM #",
    "SELECT n::timestamp @ FROM # WHERE false",
    "SELECT CAST(n AS text) @ FROM #",
    "SELECT count(*) @ FROM #",
    "SELECT count(*) @, ok FROM # GROUP BY ok",
    "SELECT abs(n) @ FROM #",
    "SELECT CASE WHEN ok THEN 1 END @ FROM #",
    "SELECT ARRAY[n] @ FROM #",
    "SELECT n IS NULL @ FROM #",
    "SELECT ok @ FROM # GROUP BY @",
    "SELECT ok, sum(n) @ FROM # GROUP BY 1",
    "SELECT sum(n) @, ok AS o FROM # GROUP BY ok ORDER BY sum(n) LIMIT 1",
    "SELECT n AS @, count(*) FROM # GROUP BY @ ORDER BY @",
    "SELECT n AS @, id FROM # ORDER BY @, id",
    "SELECT n AS @, id FROM # ORDER BY @ DESC, id LIMIT 3",
    "SELECT n @ FROM # ORDER BY @",
    "SELECT @ @@ FROM #",
    "SELECT @ AS @@ FROM #",
    "SELECT @ @@, count(*) FROM # GROUP BY @",
    "SELECT id, @ @@ FROM # WHERE ok",
    "SELECT t.@ @@ FROM # t",
    "SELECT *, 1 AS @ FROM words_other",
    "SELECT @ AS @ FROM #",
    "SELECT @ x, id y FROM # WHERE id = 2",
    // The same where the statement is cut into parts for the shards.
    "SELECT n AS @, id FROM # ORDER BY n, id LIMIT 3",
    "SELECT n @, id FROM # ORDER BY n, id LIMIT 3",
    "SELECT n AS @, id FROM # ORDER BY 1 DESC, 2 LIMIT 3",
    "SELECT n AS @, count(*) FROM # GROUP BY n",
    "SELECT n @, count(*) FROM # GROUP BY n HAVING count(*) > 1",
    "SELECT n AS @, sum(id) FROM # GROUP BY 1 ORDER BY 1 LIMIT 2",
    "SELECT sum(n) AS @ FROM # HAVING count(*) > 1",
    "SELECT sum(n) AS @, max(id) @@ FROM #",
    "SELECT DISTINCT n AS @ FROM #",
    "SELECT DISTINCT t.@ FROM # t",
    "SELECT t.@, id FROM # t ORDER BY t.@, id LIMIT 3",
    "SELECT t.@ @@, id FROM # t ORDER BY t.@ DESC, id LIMIT 3",
    "SELECT t.@ AS x, count(*) FROM # t GROUP BY t.@",
    "SELECT t.@ AS @@, sum(id) FROM # t GROUP BY 1 ORDER BY 1 LIMIT 2",
    "SELECT sum(t.@), avg(t.@ + 1) AS @ FROM # t WHERE t.@ > 1",
    "SELECT count(*) FILTER (WHERE t.@ > 1) AS @ FROM # t",
    "SELECT ok, max(t.@) AS @ FROM # t GROUP BY ok HAVING max(t.@) > 1 ORDER BY max(t.@), 1",
    "SELECT x.@, count(*) FROM (SELECT n AS @, id FROM #) x GROUP BY 1",
    "SELECT id, sum(n) OVER (ORDER BY id) AS @ FROM # ORDER BY id",
    "SELECT (t).@, count(*) FROM # t GROUP BY 1",
    // The name of a table.
    "SELECT id FROM # @",
    "SELECT id FROM # AS @",
    "SELECT @.id FROM # @ WHERE @.id > 1",
    "SELECT @.id FROM # AS @ WHERE @.id = 2",
    "SELECT @.id, @.n FROM # AS @ ORDER BY @.n, @.id",
    "SELECT @ FROM words_other @",
    "SELECT @ FROM words_other AS @ WHERE @.id = 2",
    "SELECT @.* FROM words_other AS @",
    "SELECT count(@) FROM words_other @",
    "SELECT @.id FROM # @ JOIN words_other u ON u.id = @.id",
    "SELECT u.id FROM # u JOIN words_other @ ON u.n = @.n",
    "SELECT u.id FROM # u LEFT JOIN words_other AS @ ON u.n = @.n",
    "SELECT u.id FROM # u @ JOIN words_other o ON u.id = o.id",
    "SELECT u.id FROM # u @ words_other o",
    "SELECT count(*) FROM # @, words_other o",
    "SELECT count(*) FROM # t, words_other @",
    "SELECT count(*) FROM # t CROSS JOIN words_other @",
    "SELECT id FROM # @ WHERE id = 2",
    "SELECT id FROM # @ ORDER BY id LIMIT 2",
    "SELECT count(*) FROM # @ GROUP BY ok",
    "SELECT id FROM (SELECT id FROM #) @",
    "SELECT @.id FROM (SELECT id FROM #) AS @",
    "SELECT a FROM # AS @ (a, b)",
    "SELECT a FROM # @ (a, b)",
    "SELECT @ FROM # AS t (@, b)",
    "SELECT x.@ FROM (SELECT id, n FROM #) AS x (y, @)",
    "SELECT @ FROM (SELECT id, @ FROM #) x",
    "SELECT x.@ FROM (SELECT id @ FROM #) x",
    "SELECT x.@ FROM (SELECT id AS @ FROM #) x WHERE x.@ = 2",
    "SELECT * FROM generate_series(1, 2) @, # t WHERE t.id = 2 AND t.n < 0",
    "SELECT t.id, g.@ FROM # t, generate_series(1, 2) AS g (@)",
    "SELECT id FROM @",
    "SELECT id FROM @ WHERE id = 2",
    "SELECT id FROM public.@",
    "SELECT id FROM #, @",
    "SELECT id FROM # JOIN @ ON true",
    "SELECT * FROM @ (1)",
    "SELECT * FROM # t, @ (t.id)",
    "WITH @ AS (SELECT id FROM #) SELECT * FROM @",
    "WITH \"@\" AS (SELECT id, n FROM #) SELECT * FROM @",
    "WITH \"@\" AS (SELECT id, n FROM #) SELECT @.id FROM @ WHERE @.n > 1",
    "WITH \"@\" AS (SELECT id, n FROM #) SELECT o.id FROM words_other o JOIN @ ON @.id = o.n",
    "WITH \"@\" AS (SELECT id, n FROM #) SELECT o.id FROM words_other o, @ WHERE o.id = 2",
    "WITH \"@\" AS (SELECT id, n FROM #) TABLE @",
    "WITH x (@) AS (SELECT id FROM #) SELECT @ FROM x",
    "WITH x AS (SELECT @ FROM #) SELECT * FROM x",
    "WITH x AS @ (SELECT id FROM #) SELECT * FROM x",
    // Windows.
    "SELECT id, sum(n) OVER @ FROM # WINDOW @ AS (ORDER BY id)",
    "SELECT id, sum(n) OVER \"@\" FROM # WINDOW @ AS (PARTITION BY ok)",
    "SELECT id, sum(n) OVER (@ ORDER BY id) FROM # WINDOW \"@\" AS (PARTITION BY ok)",
    "SELECT id, count(*) OVER (PARTITION BY @) FROM #",
    "SELECT id, count(*) OVER (ORDER BY @) FROM #",
    "SELECT id, sum(@) OVER (ORDER BY id ROWS @ PRECEDING) FROM #",
    "SELECT id, lag(@) OVER (PARTITION BY ok ORDER BY id) FROM #",
    "SELECT id, sum(@) OVER () @@ FROM #",
    // Behind the end of something.
    "SELECT id FROM # ORDER BY id @",
    "SELECT id FROM # ORDER BY id @, n",
    "SELECT id FROM # ORDER BY id LIMIT @",
    "SELECT id FROM # ORDER BY id LIMIT 2 @",
    "SELECT id FROM # ORDER BY id LIMIT 2 OFFSET 1 @",
    "SELECT id FROM # ORDER BY id OFFSET 1 @",
    "SELECT id FROM # ORDER BY id OFFSET @",
    "SELECT id FROM # ORDER BY id FETCH @ 2 ROWS ONLY",
    "SELECT id FROM # ORDER BY id FETCH FIRST 2 @ ONLY",
    "SELECT id FROM # ORDER BY id FETCH FIRST 2 ROWS @",
    "SELECT id FROM # ORDER BY id FETCH FIRST @ ROWS ONLY",
    "SELECT id FROM # @ 2",
    "SELECT id FROM # ORDER BY id @ 2",
    "SELECT id FROM # ORDER BY id NULLS @",
    "SELECT id FROM # GROUP BY id @",
    "SELECT @ id FROM #",
    "SELECT @ n, id FROM #",
    "SELECT @ * FROM words_other",
    "SELECT * @ FROM words_other",
    "SELECT * @ (id) FROM words_other",
    "SELECT id FROM # @ (SELECT id FROM words_other)",
    "SELECT id FROM # @ SELECT id FROM words_other",
    "SELECT id FROM # UNION @ SELECT id FROM words_other",
    "@ SELECT id FROM #",
    // Joins.
    "SELECT count(*) FROM # a JOIN # b USING (@)",
    "SELECT @ FROM # a JOIN # b USING (id, @)",
    "SELECT a.id FROM # a JOIN # b USING (id) @",
    "SELECT a.id FROM # a JOIN # b ON a.@ = b.@ AND a.id = b.id",
    "SELECT count(*) FROM # a JOIN words_other o ON a.@ = o.n",
    "SELECT count(*) FROM # a JOIN words_other o ON @ = o.n",
    "SELECT count(*) FROM # a JOIN words_other o ON o.n = @",
    "SELECT @, o.id FROM # a LEFT JOIN words_other o ON o.n = a.@ + 1",
    "SELECT x.@ FROM # t, LATERAL (SELECT t.@) x",
    // Syntax of functions.
    "SELECT extract(@ FROM date '2001-02-03'), id FROM #",
    "SELECT substring('abcdef' FROM @), id FROM #",
    "SELECT position('a' IN @::text), id FROM #",
    "SELECT trim(@ FROM 'abc'), id FROM #",
    "SELECT trim(@ 'a' FROM 'abc'), id FROM #",
    "SELECT nullif(@, 1), greatest(@, id) FROM #",
    "SELECT ceil(@), floor(@) FROM #",
    "SELECT interval '1' @, id FROM #",
    "SELECT n::@ FROM #",
    "SELECT NULL::@ @@ FROM #",
    "SELECT CAST(NULL AS @), id FROM #",
    "SELECT n::@ @@ FROM #",
    "SELECT time @ time zone '10:00', id FROM #",
    "SELECT count(*) WITHIN GROUP (ORDER BY @) FROM #",
    // Writes.
    "UPDATE # SET @ = @ + 1 WHERE id = 2 RETURNING @, id",
    "UPDATE # SET @ = 5 WHERE id = 2 AND @ < 20; SELECT @ FROM # WHERE id = 2",
    "UPDATE # @ SET n = 1 WHERE id = 2 RETURNING @.n",
    "DELETE FROM # WHERE id = 3 AND @ < 20 RETURNING @",
    "DELETE FROM # @ WHERE id = 3 RETURNING @.id",
    "INSERT INTO # (id, @) VALUES (100, 7) RETURNING @",
    "INSERT INTO # (@, id) VALUES (7, 101) RETURNING @ - 1 AS x",
    "INSERT INTO # AS @ (id) VALUES (102) RETURNING @.id",
];

/// The words, and the tables that have them for columns.
struct Words {
    all: Vec<String>,
}

impl Words {
    fn of(client: &mut Client) -> Self {
        let answer = client.simple("SELECT word FROM pg_get_keywords()");
        let keywords = answer.rows.iter().flatten().flatten().map(|it| String::from_utf8_lossy(it).into_owned());
        let parsers = ALL_KEYWORDS.iter().map(|it| it.to_ascii_lowercase());
        let more = TYPES.split_whitespace().chain(MORE.split_whitespace()).map(str::to_owned);
        // The tables have these on their own.
        let own = ["id", "n", "ok"];
        let is_word = |it: &String| it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
        let all: BTreeSet<String> =
            keywords.chain(parsers).chain(more).filter(|it| is_word(it) && !own.contains(&it.as_str())).collect();
        assert!(all.len() > 1000, "{} words: {answer:?}", all.len());
        Self { all: all.into_iter().collect() }
    }

    fn table(place: usize) -> String {
        format!("words_{}", place / WIDTH)
    }

    fn tables(&self) -> More {
        let mut more = More {
            ddl: "CREATE TABLE words_other (id bigint PRIMARY KEY, n integer);".to_owned(),
            rows: "INSERT INTO words_other SELECT i, i % 7 FROM generate_series(1, 9) i;".to_owned(),
            tables: vec![("words_other".to_owned(), Lies::Big, "id".to_owned())],
        };
        for (number, words) in self.all.chunks(WIDTH).enumerate() {
            let name = Self::table(number * WIDTH);
            let columns: String = words.iter().map(|it| format!(", \"{it}\" integer")).collect();
            let _ = write!(more.ddl, "CREATE TABLE {name} (id bigint PRIMARY KEY, n integer, ok boolean{columns});");
            for row in 1..=ROWS {
                // Other values in each column and row, 1 among them.
                let values: String = (0..words.len()).map(|it| format!(", {}", (row * (it + 2)) % 23)).collect();
                let _ = write!(more.rows, "INSERT INTO {name} VALUES ({row}, {}, {}{values});", row % 5, row % 3 == 0);
            }
            more.tables.push((name, Lies::Big, "id".to_owned()));
        }
        more
    }

    /// The statement that has the word at `at` in this place.
    fn statement(&self, place: usize, at: usize) -> String {
        let first = at / WIDTH * WIDTH;
        let near = &self.all[first..self.all.len().min(first + WIDTH)];
        let other = &near[usize::try_from(mixed(place, at) % 997).unwrap_or_default() % near.len()];
        PLACES[place].replace("@@", other).replace('@', &self.all[at]).replace('#', &Self::table(at))
    }
}

/// A number that looks like chance, and is the same in every run.
fn mixed(place: usize, word: usize) -> u64 {
    let mut it = (place as u64) << 32 | word as u64;
    for _ in 0..3 {
        it = (it ^ it >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    it >> 16
}

#[derive(Default)]
struct Count {
    same: usize,
    failed: usize,
    refused: BTreeSet<String>,
}

#[test]
fn words_are_read_as_postgres_reads_them() {
    let share = match env::var("SHARDWAY_SPREAD_WORDS").as_deref() {
        Ok("all") => 1,
        Ok(number) => number.parse().expect("a number"),
        Err(_) => SHARE,
    };
    // SHARDWAY_SPREAD_CASE picks statements and places that have it.
    let picked = env::var("SHARDWAY_SPREAD_CASE").unwrap_or_default();
    let mut words = Words { all: Vec::new() };
    let mut rig = Rig::start_with(&[], |client| {
        words = Words::of(client);
        words.tables()
    });
    let mut counts: Vec<Count> = PLACES.iter().map(|_| Count::default()).collect();
    let mut found = Vec::new();
    let mut refused_only = 0;
    for (at, word) in words.all.iter().enumerate() {
        for (place, count) in counts.iter_mut().enumerate() {
            let sql = words.statement(place, at);
            // Plans of shards are shown apart.
            let is_picked = PLACES[place].contains(&picked) || sql.contains(&picked);
            if !mixed(place, at).is_multiple_of(share) || !is_picked || sql.starts_with("explain") {
                continue;
            }
            // SELECT INTO "Q" writes, too.
            let reads = ["SELECT", "WITH"].iter().any(|it| sql.starts_with(it)) && !sql.contains(" into ");
            let way = Way { in_transaction: !reads, ..WAY };
            let plain = rig.run(way.plain(), "public", &sql, &[]);
            let ours = rig.run(way, "public", &sql, &[]);
            let order = match PLACES[place] {
                _ if VARYING.iter().any(|it| sql.contains(it)) => Order::Count,
                // LIMIT and OFFSET without an order.
                "SELECT id FROM # @ 2" => Order::Count,
                _ if word == "isnull" || word == "notnull" => Order::Any,
                text if text.contains("FROM # ORDER BY id") || text.ends_with(", id LIMIT 2") => Order::Total,
                _ => Order::Any,
            };
            match compare(&ours, &plain, rig.types(1), order) {
                Verdict::Same => count.same += 1,
                Verdict::SameError(_) => count.failed += 1,
                Verdict::Refused(_) if plain.error.is_some() => refused_only += 1,
                Verdict::Refused(reason) => {
                    count.refused.insert(word.clone());
                    if !picked.is_empty() {
                        println!("refused: {sql}: {reason}");
                    }
                }
                Verdict::Mismatch(difference) => {
                    println!("MISMATCH {sql}: {difference}");
                    found.push(sql);
                }
            }
        }
    }
    let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
    let (same, failed, refused) = (sum(|it| it.same), sum(|it| it.failed), sum(|it| it.refused.len()));
    // Places in which the same words are not read.
    let mut unread: BTreeMap<&BTreeSet<String>, Vec<&str>> = BTreeMap::new();
    for (place, count) in PLACES.iter().zip(&counts).filter(|it| !it.1.refused.is_empty()) {
        unread.entry(&count.refused).or_default().push(place);
    }
    for (words, places) in unread {
        let shown: Vec<&str> = words.iter().take(SHOWN).map(String::as_str).collect();
        let rest = words.len().saturating_sub(SHOWN);
        let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
        println!("oracle: refused in {}: {}{rest}", places.join(" | "), shown.join(" "));
    }
    println!(
        "oracle: words: {} of them, {same} answers alike, {refused} refused; {failed} errors alike, {refused_only} refused \
         instead; {} MISMATCH",
        words.all.len(),
        found.len(),
    );
    assert_eq!(found, Vec::<String>::new());
    let share = same * 100 / (same + refused).max(1);
    assert!(!picked.is_empty() || share >= ANSWERED_MIN, "only {share} % are answered");
}
