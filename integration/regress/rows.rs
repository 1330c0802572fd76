//! Rows for the tables that the files fill from data files, which are not shipped: made up, of the same shape.

/// What fills the table; nothing: no file of ours does.
pub(crate) fn of(table: &str) -> Option<String> {
    let numbers = |count: usize, step: usize, first: usize| {
        format!(
            "INSERT INTO {table} SELECT u, i, u % 2, u % 4, u % 10, u % 20, u % 100, u % 1000, u % 2000, u % 5000, u % 10000, \
             u % 100 * 2, u % 100 * 2 + 1, chr(65 + u % 26) || chr(65 + u / 26 % 26) || 'AAAA', \
             chr(65 + i % 26) || chr(65 + i / 26 % 26) || 'AAAA', (ARRAY['AAAAxx', 'HHHHxx', 'OOOOxx', 'VVVVxx'])[i % 4 + 1] \
             FROM (SELECT i, (i * {step} + {first}) % {count} AS u FROM generate_series(0, {count} - 1) i) numbers"
        )
    };
    let people = "(ARRAY['mike', 'joe', 'sally', 'sandra', 'alex', 'sue', 'denise', 'sarah', 'teresa', 'nan'])[i % 10 + 1] || \
                  CASE WHEN i < 10 THEN '' ELSE i::text END, 18 + i * 7 % 60, point(i * 3 % 11, i * 5 % 7)";
    Some(match table {
        "onek" => numbers(1000, 387, 147),
        "tenk1" => numbers(10_000, 7387, 8800),
        "person" => format!("INSERT INTO person SELECT {people} FROM generate_series(0, 49) i"),
        "emp" => format!(
            "INSERT INTO emp SELECT {people}, i * 250, (ARRAY['sharon', 'bill', 'jeff'])[i % 3 + 1] FROM generate_series(100, 105) i"
        ),
        "student" => format!("INSERT INTO student SELECT {people}, (i % 5) * 0.8 FROM generate_series(200, 203) i"),
        "stud_emp" => format!(
            "INSERT INTO stud_emp SELECT {people}, i * 100, 'bill', (i % 4) * 0.9, i % 100 FROM generate_series(300, 303) i"
        ),
        "road" => "INSERT INTO road SELECT CASE i % 3 WHEN 0 THEN 'I- ' || 80 + i WHEN 1 THEN 'State Hwy ' || i ELSE 'Elm ' || i || ' St' END, \
             ('[(' || i || ',' || i * 2 || '),(' || i + 1 || ',' || i * 2 + 3 || '),(' || i + 2 || ',' || i || ')]')::path \
             FROM generate_series(1, 60) i"
            .to_owned(),
        "aggtest" => "INSERT INTO aggtest VALUES (56, 7.8), (100, 99.097), (0, 0.09561), (42, 324.78)".to_owned(),
        "array_op_test" => "INSERT INTO array_op_test SELECT i, CASE WHEN i % 17 = 0 THEN NULL WHEN i % 19 = 0 THEN '{NULL}' ELSE \
             ARRAY[i % 40, i * 7 % 90, 32, i * 13 % 25] END, ARRAY['AAAAAAAA' || i * 11 % 80, 'AAA' || i * 3 % 50, 'A' || i % 7] \
             FROM generate_series(1, 101) i"
            .to_owned(),
        "testjsonb" => "INSERT INTO testjsonb SELECT jsonb_strip_nulls(jsonb_build_object('line', i, 'date', CASE WHEN i % 3 = 0 THEN 'CB' END, \
             'node', CASE WHEN i % 5 = 0 THEN 'CBA' END, 'wait', CASE i % 4 WHEN 0 THEN 'CC' WHEN 1 THEN 'AA' END, \
             'public', i % 2 = 0, 'age', CASE WHEN i % 7 < 2 THEN 25 + i % 3 END, 'bar', CASE WHEN i % 11 = 0 THEN 'baz' END, \
             'array', CASE WHEN i % 9 = 0 THEN to_jsonb(ARRAY['foo', 'bar', i::text]) END)) FROM generate_series(1, 1000) i \
             UNION ALL VALUES ('{}'::jsonb), ('[]'), ('null'), ('{\"array\": [5]}')"
            .to_owned(),
        "test_tsvector" => "INSERT INTO test_tsvector SELECT 'text ' || i, to_tsvector('simple', \
             (ARRAY['wr', 'qh', 'w', 'q', 'y'])[i % 5 + 1] || ' ' || (ARRAY['qt', 'q2', 'eq', 'yt'])[i % 4 + 1] || ' w' || i % 30) \
             FROM generate_series(1, 508) i"
            .to_owned(),
        _ => return None,
    })
}
