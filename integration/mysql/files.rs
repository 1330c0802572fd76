//! Files of the client's (LOAD DATA LOCAL): what one server makes of them, the proxy does over shards, or refuses.

use shardway::wire::mysql::capability;

use crate::client::Answer;
use crate::client::Client;
use crate::client::MODERN;
use crate::client::OLD;
use crate::compare::difference;
use crate::compare::is_refused;
use crate::compare::renamed;
use crate::house::Against;
use crate::house::House;
use crate::house::Pair;
use crate::house::WIDTHS;
use crate::proxy::Outcome;

/// What a client says, and the file that it has; a statement that begins with `!` is refused over shards, with `?` it may be.
type Step<'a> = (&'static str, &'a str);

/// What separates fields and lines in most of these.
macro_rules! csv {
    ($into:literal) => {
        concat!("LOAD DATA LOCAL INFILE 'f' ", $into)
    };
}

const CASES: &[(&str, &[Step<'static>])] = &[
    (
        "a file of plain lines",
        &[
            (csv!("INTO TABLE t (id, a, note)"), "101\t1\tx\n102\t2\ty\n103\t3\t\\N\n104\t\\N\tö\n105\t5\tlast"),
            (csv!("INTO TABLE t"), "111\t1\tx\t2020-01-01\n112\t2\ty\t\\N\n113\t3\tz\t2020-01-01 10:11:12\n"),
            ("SELECT id, a, note, made FROM t WHERE id > 100 ORDER BY id", ""),
            ("SELECT ROW_COUNT(), LAST_INSERT_ID()", ""),
            (csv!("INTO TABLE t (id)"), ""),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id)", "\n"),
            (csv!("INTO TABLE {db}.`t` (`id`, a)"), "121\t1\n+0122\t2\n 123 \t3\n-124\t4\n"),
            (csv!("INTO TABLE t () SET note = 'x'"), "131\t1\tx\t2020-01-01\n132\t2\ty\t\\N\n"),
            (csv!("INTO TABLE t IGNORE 0 LINES (id, a)"), "141\t1\n142\t2\n"),
            (
                csv!("INTO TABLE t CHARACTER SET utf8mb4 IGNORE 2 LINES (id, note)"),
                "no\nnumber\n151\té\n152\t😀\n153\tß\n",
            ),
            (csv!("INTO TABLE t CHARACTER SET latin1 (id, note)"), "161\té\n162\tü\n163\tß\n"),
            (csv!("INTO TABLE t CHARACTER SET 'binary' (id, note)"), "171\té\n172\tü\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t CHARACTER SET ucs2 (id, note)", ""),
            ("SELECT id, HEX(note) FROM t WHERE id > 150 ORDER BY id", ""),
        ],
    ),
    (
        "lines of a file that are not as they should be",
        &[
            (
                csv!("INTO TABLE t FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' IGNORE 1 LINES (id, a, note)"),
                "id,a,note\n201,1,a\n202,x,b\n203,3\n204\n205,5,e,f,g\n201,9,dup\n202,9,dup\n203,9,dup\n206,9,twenty-one letters now\n207,,\n",
            ),
            ("SHOW WARNINGS", ""),
            ("SELECT @@warning_count, ROW_COUNT()", ""),
            ("SHOW COUNT(*) WARNINGS", ""),
            ("SELECT id, a, note FROM t ORDER BY id", ""),
            (csv!("REPLACE INTO TABLE t FIELDS TERMINATED BY ',' (id, a)"), "1,100\n2,200\n3,300\n211,1\n1,7\n2,8\n"),
            ("SELECT id, a, note FROM t ORDER BY id", ""),
            (csv!("REPLACE INTO TABLE t FIELDS TERMINATED BY ',' (id, a)"), "221,100\n222,x\n223,y\n224,1\n225,z\n"),
            ("SELECT id, a, note FROM t WHERE id > 220 ORDER BY id", ""),
            (csv!("REPLACE INTO TABLE t FIELDS TERMINATED BY ',' (id, a)"), "221,100\n222,2\n223\n224,1\n225,5\n"),
            (
                csv!("IGNORE INTO TABLE t FIELDS TERMINATED BY ',' (id, note)"),
                "231,bad\n232,ok\n233,bad\n234,bad\n235,bad\n1,bad\n2,x\n",
            ),
            ("SHOW WARNINGS", ""),
            (csv!("REPLACE INTO TABLE t FIELDS TERMINATED BY ',' (id, note)"), "231,ok\n232,bad\n233,bad\n"),
            ("SELECT id, a, note FROM t WHERE id > 220 ORDER BY id", ""),
        ],
    ),
    (
        "quotes and escapes in a file",
        &[
            (
                csv!(
                    "INTO TABLE t FIELDS TERMINATED BY ',' ENCLOSED BY '\"' LINES TERMINATED BY '\\r\\n' (id, note, a)"
                ),
                "\"301\",\"a,b\",\"1\"\r\n302,\"a\"\"b\",2\r\n\"303\",\"line\nline\r\nline\",3\r\n304,a\\,b,4\r\n305,\"a\\\"b\",5\r\n306,NULL,NULL\r\n307,\"NULL\",7\r\n308,\"\\N\",8\r\n309,\"open,9\r\n310,x,10\r\n",
            ),
            ("SELECT id, a, HEX(note) FROM t WHERE id > 300 ORDER BY id", ""),
            (
                csv!(
                    "INTO TABLE t FIELDS TERMINATED BY ';;' ENCLOSED BY '''' ESCAPED BY '!' LINES STARTING BY '>>' TERMINATED BY '<<\\n' (id, note)"
                ),
                "no>>321;;'a;;b'<<\nnothing<<\n>>322;;a!nb<<\n>>323;;a<b;c<<\n>>'324';;!N<<\n>>325;;x;;more>>'<<\n>>!326;;'it''s'<<\n",
            ),
            ("SELECT id, HEX(note) FROM t WHERE id > 320 ORDER BY id", ""),
            (
                csv!("INTO TABLE t FIELDS TERMINATED BY ',' ENCLOSED BY '\"' ESCAPED BY '\"' (id, note)"),
                "331,\"a\"\"b\\\"\n332,\\N\n\"333\",\"x\"\n334,\"\"\n",
            ),
            (csv!("INTO TABLE t FIELDS TERMINATED BY ',' ESCAPED BY '' (id, note)"), "341,a\\\n342,\\N\n343,\\t\n"),
            (csv!("INTO TABLE t FIELDS TERMINATED BY '\\n' (id, note)"), "351\na\n352\nb\n353\nc\n"),
            (csv!("INTO TABLE t FIELDS TERMINATED BY 0x2c LINES TERMINATED BY '' (id, note)"), "361,a,362,b,363,c"),
            ("SELECT id, HEX(note) FROM t WHERE id > 330 ORDER BY id", ""),
            ("SET sql_mode = 'NO_BACKSLASH_ESCAPES'", ""),
            (csv!("INTO TABLE t (id, note)"), "371\ta\\nb\n372\t\\N\n"),
            ("SELECT id, HEX(note) FROM t WHERE id > 370 ORDER BY id", ""),
        ],
    ),
    (
        "a file in a transaction",
        &[
            ("BEGIN", ""),
            ("UPDATE t SET a = 11 WHERE id = 1", ""),
            (csv!("INTO TABLE t (id, a)"), "401\t1\n402\t2\n403\t3\n404\t4\n"),
            (csv!("REPLACE INTO TABLE t (id, a)"), "401\t10\n402\tx\n"),
            (csv!("INTO TABLE items (id, no)"), "401\t1\n402\t2\n403\t3\n"),
            ("SELECT id, a FROM t ORDER BY id", ""),
            ("SELECT id, no, what FROM items WHERE id > 400 ORDER BY id", ""),
            ("ROLLBACK", ""),
            ("SELECT id, a FROM t ORDER BY id", ""),
            ("SET autocommit = 0", ""),
            (csv!("INTO TABLE t (id, a)"), "411\t1\n412\t2\n413\t3\n"),
            ("COMMIT", ""),
            ("SET autocommit = 1", ""),
            ("SELECT id, a FROM t ORDER BY id", ""),
            ("START TRANSACTION READ ONLY", ""),
            (csv!("INTO TABLE t (id, a)"), "421\t1\n422\t2\n"),
            ("ROLLBACK", ""),
        ],
    ),
    (
        "variables and computed columns of a file",
        &[
            ("SET @u = 7", ""),
            (
                csv!("INTO TABLE t (id, @a, @n) SET a = @a * 2 + @u, note = CONCAT(UPPER(@n), '!')"),
                "501\t1\tx\n502\t2\ty\n503\t3\tz\n",
            ),
            ("SELECT id, a, note FROM t WHERE id > 500 ORDER BY id", ""),
            ("SELECT @a, @n, @u", ""),
            (csv!("INTO TABLE t (id, @a, note)"), "511\t1\tx\n512\t2\n513\n"),
            ("SELECT @a, @n", ""),
            (
                csv!("INTO TABLE t (id, a) SET note = CASE WHEN a > 1 THEN 'big' ELSE NULLIF('a', 'a') END"),
                "521\t1\n522\t2\n523\t3\n",
            ),
            ("SELECT id, a, note FROM t WHERE id > 500 ORDER BY id", ""),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE t (@id, a) SET id = @id", ""),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id, a) SET note = (SELECT MAX(code) FROM refs)", ""),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id, a) SET note = RAND()", ""),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id, a) SET note = USER()", ""),
            ("SELECT COUNT(*) FROM t", ""),
        ],
    ),
    (
        "keys of a file",
        &[
            (csv!("INTO TABLE fruits (name, n)"), "kiwi\t1\nlime\t2\ndate\t3\nnut\t4\n\\pear\t5\nsa\\go\t6\n"),
            (csv!("INTO TABLE fruits FIELDS ENCLOSED BY '\"' (name, n)"), "\"quince\"\t1\n\"ro\"\"se\"\t2\nt\"ea\t3\n"),
            ("SELECT name, n FROM fruits ORDER BY n, name", ""),
            (
                csv!("INTO TABLE uuids (u, n)"),
                "0b8e1a2c-3d4e-4f5a-8b6c-000000000001\t1\n0b8e1a2c-3d4e-4f5a-8b6c-000000000002\t2\n",
            ),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id, a)", "601\t1\n\\N\t2\n603\t3\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id, a)", "611\t1\nx\t2\n613\t3\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id, a)", "621\t1\n1.5\t2\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t (a, id)", "1\t631\n2\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t (id, a)", "641\t1\n99999999999999999999\t2\n"),
            (csv!("INTO TABLE t (id, a)"), "651\t1\n1234567890123456789\t2\n-9223372036854775808\t3\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t (a)", "1\n2\n"),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE t FIELDS TERMINATED BY '' (id, a)", ""),
            ("SELECT id, a FROM t ORDER BY id", ""),
        ],
    ),
    (
        "a file for tables that are whole",
        &[
            (csv!("INTO TABLE refs FIELDS TERMINATED BY ',' (code, n)"), "at,43\nch,41\nde,1\nfr\n"),
            ("SHOW WARNINGS", ""),
            (csv!("REPLACE INTO TABLE refs FIELDS TERMINATED BY ',' IGNORE 1 LINES"), "x,y\nat,1\nnl,31\n"),
            ("SELECT code, n FROM refs ORDER BY code", ""),
            (csv!("INTO TABLE solo FIELDS TERMINATED BY ',' (v)"), "one\ntwo\nthree\n"),
            ("SELECT LAST_INSERT_ID(), ROW_COUNT()", ""),
            (csv!("INTO TABLE solo FIELDS TERMINATED BY ',' (n, v)"), "50,one\n1,dup\n0,next\nx,y\n"),
            ("SHOW WARNINGS", ""),
            ("SELECT LAST_INSERT_ID(), ROW_COUNT()", ""),
            ("SELECT n, v FROM solo ORDER BY n", ""),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE tags (v)", ""),
            ("BEGIN", ""),
            (csv!("INTO TABLE refs FIELDS TERMINATED BY ',' (code, n)"), "be,32\n"),
            ("ROLLBACK", ""),
        ],
    ),
    (
        "numbers in a file",
        &[
            (csv!("INTO TABLE orders (id, who)"), "801\t1\n802\t2\n803\t3\n"),
            ("INSERT INTO orders (who) VALUES (4)", ""),
            ("SELECT LAST_INSERT_ID()", ""),
            (csv!("INTO TABLE parts (id, no, what)"), "801\t900\tx\n802\t950\ty\n"),
            ("INSERT INTO parts (id, what) VALUES (803, 'z')", ""),
            ("SELECT LAST_INSERT_ID()", ""),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE orders (who)", ""),
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE parts (id, what)", ""),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE orders (id, who)", "811\t1\n0\t2\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE parts (id, no, what)", "821\t960\tx\n822\t\\N\ty\n"),
            (csv!("INTO TABLE parts (id, no, what)"), "831\t 970\tx\n832\t+0980 \ty\n"),
            // Such a blank is none to a server, which takes a number of its own there.
            ("!LOAD DATA LOCAL INFILE 'f' INTO TABLE parts (id, no, what)", "841\t\u{a0}990\tx\n"),
        ],
    ),
    (
        "a file that is not asked for",
        &[
            (csv!("INTO TABLE t (id, nope)"), "901\t1\n"),
            (csv!("INTO TABLE nowhere (id)"), "901\n"),
            ("?LOAD DATA LOCAL INFILE 'f' INTO TABLE t FIELDS TERMINATED BY ',' ESCAPED BY '!!' (id)", "901\n"),
            (csv!("INTO TABEL t (id)"), "901\n"),
            ("SELECT 1", ""),
        ],
    ),
];

/// Runs the cases whose title holds `wanted`.
pub(crate) fn differences(house: &House, against: Against, wanted: &str) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    let several = |width: usize| width > 1 && against == Against::Proxy;
    for width in WIDTHS {
        let mut direct = house.direct(width)?;
        for (title, steps) in CASES.iter().filter(|(title, _)| title.contains(wanted)) {
            for (capabilities, prepared) in [(MODERN, false), (MODERN, true), (OLD | capability::COMPRESS, false)] {
                direct.fill()?;
                let place = format!("{width} shards, {title}, {capabilities:#x}, {prepared}");
                let mut pair = house.pair(width, capabilities | capability::LOCAL_FILES)?;
                for (sql, file) in *steps {
                    let problem = step(&mut pair, width, (sql, file), prepared, several(width));
                    problems.extend(problem.map(|it| format!("{place}: {sql}: {it}")));
                }
                drop(pair);
                problems.extend(direct.difference()?.map(|it| format!("{place}: behind it, {it}")));
            }
        }
        if "files by chance".contains(wanted) {
            by_chance(house, width, &mut problems)?;
            large(house, width, &mut problems)?;
        }
        direct.fill()?;
    }
    Ok(problems)
}

/// Files of which most lines have something wrong with them.
pub(crate) fn many_conditions(house: &House) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    let twice = |ids: std::ops::Range<u32>| ids.map(|id| format!("{id}\tx\n{id}\t1\n")).collect::<String>();
    // Fewer than servers keep, and more.
    let [some, many] = [twice(10_000..10_190), twice(11_000..11_700)];
    let steps: [Step<'_>; 6] = [
        (csv!("IGNORE INTO TABLE t (id, note)"), &some),
        ("SHOW WARNINGS", ""),
        (csv!("IGNORE INTO TABLE t (id, note)"), &many),
        ("SHOW WARNINGS", ""),
        (csv!("IGNORE INTO TABLE t (id, a)"), "12001\tx\n"),
        ("SHOW WARNINGS", ""),
    ];
    for width in WIDTHS {
        let mut direct = house.direct(width)?;
        direct.fill()?;
        let mut pair = house.pair(width, MODERN | capability::LOCAL_FILES)?;
        for (sql, file) in steps {
            let problem = step(&mut pair, width, (sql, file), false, width > 1);
            problems.extend(problem.map(|it| format!("{width} shards, many conditions: {sql}: {it}")));
        }
        drop(pair);
        problems.extend(direct.difference()?.map(|it| format!("{width} shards, many conditions: {it}")));
    }
    Ok(problems)
}

fn step(pair: &mut Pair, width: usize, (sql, file): Step<'_>, prepared: bool, several: bool) -> Option<String> {
    let (mark, sql) = match sql.strip_prefix(['!', '?']) {
        Some(rest) => (sql.chars().next(), rest),
        None => (None, sql),
    };
    let say = |client: &mut Client, prefix: &str| {
        client.file = file.as_bytes().to_vec();
        let sql = sql.replace("{db}", &format!("{prefix}{width}"));
        let mut answers = if prepared { client.run(&sql, &[]) } else { client.query(&sql) };
        client.file.clear();
        answers.push(client.ping());
        answers
    };
    let ours = say(&mut pair.ours, "d");
    match (mark, is_refused(&ours), several) {
        (Some(_), true, true) => return None,
        (Some('!'), false, true) => return Some("not refused".to_owned()),
        _ => {}
    }
    difference(&ours, &renamed(say(&mut pair.plain, "plain"), width), true)
}

/// Numbers that look like chance, and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound.max(1)
    }

    fn one_of<'a>(&mut self, them: &[&'a str]) -> &'a str {
        them[self.below(them.len())]
    }
}

/// How many files are tried for each number of shards.
const FILES: u64 = 120;

/// Files whose separators, quotes and escapes stand anywhere.
fn by_chance(house: &House, width: usize, problems: &mut Vec<String>) -> Outcome {
    let mut pair = house.pair(width, MODERN | capability::LOCAL_FILES)?;
    let mut refused = 0;
    for seed in 0..FILES {
        let mut chance = Chance(seed * 1_000_003 + 17);
        let (sql, file) = file(&mut chance);
        let say = |client: &mut Client| {
            let mut answers = client.query("DELETE FROM t");
            client.file.clone_from(&file);
            answers.extend(client.query(&sql));
            client.file.clear();
            answers.extend(client.query("SHOW WARNINGS"));
            answers.extend(client.query("SELECT id, a, note FROM t ORDER BY id"));
            // How many there were of the case before is nobody's promise.
            answers[0] = Answer::default();
            answers
        };
        let ours = say(&mut pair.ours);
        if is_refused(&ours) {
            refused += 1;
            continue;
        }
        let problem = difference(&ours, &renamed(say(&mut pair.plain), width), true);
        let shown = String::from_utf8_lossy(&file).into_owned();
        problems.extend(problem.map(|it| format!("{width} shards, file {seed}, {sql}, {shown:?}: {it}")));
    }
    println!("files by chance: {refused} of {FILES} were refused over {width} shards");
    if refused * 3 > FILES {
        problems.push(format!("{width} shards: {refused} files of {FILES} were refused"));
    }
    Ok(())
}

fn file(chance: &mut Chance) -> (String, Vec<u8>) {
    let ends = chance.one_of(&[",", "\\t", ";;", "|", "a", ",,,", "->"]);
    let quote = chance.one_of(&["", "\"", "\"", "\\'", "|"]);
    let escape = chance.one_of(&["\\\\", "\\\\", "", "!", "\""]);
    let lines = chance.one_of(&["\\n", "\\n", "\\r\\n", "<>", "\\n\\n", ";"]);
    let starts = chance.one_of(&["", "", "", ">", "**"]);
    let how = chance.one_of(&["", "", "REPLACE", "IGNORE"]);
    let optionally = chance.one_of(&["", "OPTIONALLY "]);
    let skips = chance.below(3);
    let quotes = if quote.is_empty() { String::new() } else { format!("{optionally}ENCLOSED BY '{quote}' ") };
    let sql = format!(
        "LOAD DATA LOCAL INFILE 'f' {how} INTO TABLE t FIELDS TERMINATED BY '{ends}' {quotes}ESCAPED BY '{escape}' \
         LINES STARTING BY '{starts}' TERMINATED BY '{lines}' IGNORE {skips} LINES (id, note, a)"
    );
    let plain = |it: &str| {
        it.replace("\\\\", "\u{1}")
            .replace("\\n", "\n")
            .replace("\\r", "\r")
            .replace("\\t", "\t")
            .replace("\\'", "'")
            .replace('\u{1}', "\\")
    };
    let [ends, quote, escape, lines, starts] = [ends, quote, escape, lines, starts].map(plain);
    let mut text = String::new();
    for _ in 0..skips {
        text += &format!("skip{}{quote}ped{lines}", escape);
    }
    let strange =
        [&*ends, &*quote, &*escape, &*lines, &*starts, "é", "😀", "\\", "\n", "N", "NULL", " ", "x", "0", "\"", "'"];
    for row in 0..(1 + chance.below(25)) {
        text += &starts;
        let id = if chance.below(6) == 0 { 1 + chance.below(20) } else { 1000 + row };
        let quoted = chance.below(3) == 0;
        text += &if quoted { format!("{quote}{id}{quote}") } else { id.to_string() };
        let fields = [2, 2, 2, 2, 1, 0, 3][chance.below(7)];
        for field in 0..fields {
            text += &ends;
            let quoted = chance.below(3) == 0;
            if quoted {
                text += &quote;
            }
            match field {
                1 if chance.below(5) > 0 => text += &chance.below(1000).to_string(),
                _ => {
                    for _ in 0..chance.below(6) {
                        text += if chance.below(3) == 0 { chance.one_of(&strange) } else { "w" };
                    }
                }
            }
            if quoted {
                text += &quote;
            }
        }
        text += &lines;
    }
    if chance.below(3) == 0 {
        text.truncate(text.len() - lines.len());
    }
    (sql, text.into_bytes())
}

/// A file of many pieces, and lines that are longer than one.
fn large(house: &House, width: usize, problems: &mut Vec<String>) -> Outcome {
    let mut pair = house.pair(width, MODERN | capability::LOCAL_FILES)?;
    let mut file = String::new();
    for id in 10_000..60_000 {
        let more = if id % 20_000 == 0 { "long ".repeat(100_000) } else { String::new() };
        file +=
            &format!("{id},{},line {id}{more}\n", if id % 9973 == 0 { "x".to_owned() } else { (id * 7).to_string() });
    }
    let say = |client: &mut Client| {
        client.file = file.clone().into_bytes();
        let mut answers =
            client.query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t FIELDS TERMINATED BY ',' (id, a, note)");
        answers.extend(client.query("SHOW WARNINGS"));
        answers.extend(client.query("SELECT COUNT(*), SUM(a), MAX(note), MIN(note) FROM t WHERE id >= 10000"));
        answers.extend(client.query("DELETE FROM t WHERE id >= 10000"));
        answers
    };
    let ours = say(&mut pair.ours);
    let problem = difference(&ours, &renamed(say(&mut pair.plain), width), true);
    problems.extend(problem.map(|it| format!("{width} shards, a large file: {it}")));
    Ok(())
}
