//! What tools ask the catalogs: the proxy answers as the catalog shard does.

use std::process::Command;

use super::compare::Order;
use super::compare::Verdict;
use super::rig::Both;
use super::rig::DATABASE;
use super::rig::Rig;
use super::rig::Tally;
use super::rig::USER;
use super::wire::How;

/// Backslash commands of psql.
const PSQL: &[&str] = &[
    "\\d",
    "\\d+",
    "\\d users",
    "\\d+ users",
    "\\d orders",
    "\\d adults",
    "\\d+ adults",
    "\\d users_pkey",
    "\\d no*",
    "\\dt",
    "\\dt+",
    "\\dt+ users",
    "\\dt *.*",
    "\\di",
    "\\di+",
    "\\dv",
    "\\dv+",
    "\\dm",
    "\\ds",
    "\\dE",
    "\\df",
    "\\df+",
    "\\df twice",
    "\\df pg_catalog.length",
    "\\dn",
    "\\dn+",
    "\\l",
    "\\l+",
    "\\du",
    "\\du+",
    "\\dT",
    "\\dT+",
    "\\dD",
    "\\dp",
    "\\z users",
    "\\ddp",
    "\\dx",
    "\\dx+",
    "\\dc",
    "\\dC",
    "\\dO",
    "\\do +",
    "\\da",
    "\\db",
    "\\db+",
    "\\dd",
    "\\det",
    "\\des",
    "\\dew",
    "\\deu",
    "\\dF",
    "\\dFd",
    "\\dFp",
    "\\dFt",
    "\\dg",
    "\\dl",
    "\\dL",
    "\\drds",
    "\\dRp",
    "\\dRs",
    "\\dP",
    "\\dy",
    "\\dX",
    "\\dA",
    "\\dAc",
    "\\dAf",
    "\\dAo",
    "\\dAp",
    "\\dconfig work_mem",
    "\\sf twice",
    "\\sf+ twice",
    "\\sv adults",
    "\\sv+ adults",
    "\\encoding",
    "\\conninfo",
];

/// What drivers, mappers and consoles send.
const QUERIES: &[&str] = &[
    // pgcli
    "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
    "SELECT n.nspname schema_name, c.relname table_name FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n \
     ON n.oid = c.relnamespace WHERE c.relkind = ANY(ARRAY['r','p','f']) ORDER BY 1,2",
    "SELECT nsp.nspname schema_name, cls.relname table_name, att.attname column_name, att.atttypid::regtype::text type_name, \
     att.atthasdef AS has_default, pg_catalog.pg_get_expr(def.adbin, def.adrelid, true) as default FROM \
     pg_catalog.pg_attribute att INNER JOIN pg_catalog.pg_class cls ON att.attrelid = cls.oid INNER JOIN \
     pg_catalog.pg_namespace nsp ON cls.relnamespace = nsp.oid LEFT OUTER JOIN pg_attrdef def ON def.adrelid = att.attrelid \
     AND def.adnum = att.attnum WHERE cls.relkind = ANY(ARRAY['r','p','f']) AND NOT att.attisdropped AND att.attnum > 0 \
     ORDER BY 1, 2, att.attnum",
    "SELECT s_p.nspname AS parentschema, t_p.relname AS parenttable, unnest((select array_agg(attname ORDER BY i) from \
     (select unnest(confkey) as attnum, generate_subscripts(confkey, 1) as i) x JOIN pg_catalog.pg_attribute c USING(attnum) \
     WHERE c.attrelid = fk.confrelid)) AS parentcolumn, s_c.nspname AS childschema, t_c.relname AS childtable, \
     unnest((select array_agg(attname ORDER BY i) from (select unnest(conkey) as attnum, generate_subscripts(conkey, 1) as i) x \
     JOIN pg_catalog.pg_attribute c USING(attnum) WHERE c.attrelid = fk.conrelid)) AS childcolumn FROM pg_catalog.pg_constraint fk \
     JOIN pg_catalog.pg_class t_p ON t_p.oid = fk.confrelid JOIN pg_catalog.pg_namespace s_p ON s_p.oid = t_p.relnamespace \
     JOIN pg_catalog.pg_class t_c ON t_c.oid = fk.conrelid JOIN pg_catalog.pg_namespace s_c ON s_c.oid = t_c.relnamespace \
     WHERE fk.contype = 'f'",
    "SELECT n.nspname schema_name, p.proname func_name, p.proargnames, COALESCE(proallargtypes::regtype[], \
     proargtypes::regtype[])::text[], p.proargmodes, prorettype::regtype::text return_type, p.prokind = 'a' is_aggregate, \
     p.prokind = 'w' is_window, p.proretset is_set_returning, d.deptype = 'e' is_extension, \
     pg_get_expr(proargdefaults, 0) AS arg_defaults FROM pg_catalog.pg_proc p INNER JOIN pg_catalog.pg_namespace n ON \
     n.oid = p.pronamespace LEFT JOIN pg_depend d ON d.objid = p.oid and d.deptype = 'e' WHERE p.prorettype::regtype != \
     'trigger'::regtype ORDER BY 1, 2, p.oid",
    "SELECT n.nspname schema_name, t.typname type_name FROM pg_catalog.pg_type t INNER JOIN pg_catalog.pg_namespace n ON \
     n.oid = t.typnamespace WHERE (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = \
     t.typrelid)) AND NOT EXISTS(SELECT 1 FROM pg_catalog.pg_type el WHERE el.oid = t.typelem AND el.typarray = t.oid) AND \
     n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' ORDER BY 1, 2",
    "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn ORDER BY 1",
    "SELECT unnest(current_schemas(true))",
    // SQLAlchemy
    "select pg_catalog.version()",
    "select current_schema()",
    "show standard_conforming_strings",
    "show transaction isolation level",
    "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON \
     pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'users' AND \
     pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND \
     pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'",
    "SELECT pg_catalog.pg_attribute.attname AS name, pg_catalog.format_type(pg_catalog.pg_attribute.atttypid, \
     pg_catalog.pg_attribute.atttypmod) AS format_type, (SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin, \
     pg_catalog.pg_attrdef.adrelid) AS pg_get_expr_1 FROM pg_catalog.pg_attrdef WHERE pg_catalog.pg_attrdef.adrelid = \
     pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attrdef.adnum = pg_catalog.pg_attribute.attnum AND \
     pg_catalog.pg_attribute.atthasdef) AS \"default\", pg_catalog.pg_attribute.attnotnull AS not_null, \
     pg_catalog.pg_class.relname AS table_name, pg_catalog.pg_description.description AS comment, \
     pg_catalog.pg_attribute.attgenerated AS generated, (SELECT json_build_object('always', \
     pg_catalog.pg_attribute.attidentity = 'a', 'start', pg_catalog.pg_sequence.seqstart) AS json_build_object_1 FROM \
     pg_catalog.pg_sequence WHERE pg_catalog.pg_attribute.attidentity != '' AND pg_catalog.pg_sequence.seqrelid = \
     CAST(CAST(pg_catalog.pg_get_serial_sequence(CAST(CAST(pg_catalog.pg_attribute.attrelid AS REGCLASS) AS TEXT), \
     pg_catalog.pg_attribute.attname) AS REGCLASS) AS OID)) AS identity_options FROM pg_catalog.pg_class LEFT OUTER JOIN \
     pg_catalog.pg_attribute ON pg_catalog.pg_class.oid = pg_catalog.pg_attribute.attrelid AND \
     pg_catalog.pg_attribute.attnum > 0 AND NOT pg_catalog.pg_attribute.attisdropped LEFT OUTER JOIN \
     pg_catalog.pg_description ON pg_catalog.pg_description.objoid = pg_catalog.pg_attribute.attrelid AND \
     pg_catalog.pg_description.objsubid = pg_catalog.pg_attribute.attnum JOIN pg_catalog.pg_namespace ON \
     pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY \
     (ARRAY['r', 'p', 'f', 'v', 'm']) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND \
     pg_catalog.pg_namespace.nspname != 'pg_catalog' ORDER BY pg_catalog.pg_class.relname, pg_catalog.pg_attribute.attnum",
    "SELECT attr.conrelid, array_agg(CAST(attr.attname AS TEXT) ORDER BY attr.ord) AS cols, attr.conname, \
     min(attr.description) AS description FROM (SELECT con.conrelid, con.conname, con.conindid, con.description, con.ord, \
     pg_catalog.pg_attribute.attname FROM pg_catalog.pg_attribute JOIN (SELECT pg_catalog.pg_constraint.conrelid, \
     pg_catalog.pg_constraint.conname, pg_catalog.pg_constraint.conindid, unnest(pg_catalog.pg_constraint.conkey) AS attnum, \
     generate_subscripts(pg_catalog.pg_constraint.conkey, 1) AS ord, pg_catalog.pg_description.description FROM \
     pg_catalog.pg_constraint LEFT OUTER JOIN pg_catalog.pg_description ON pg_catalog.pg_description.objoid = \
     pg_catalog.pg_constraint.oid WHERE pg_catalog.pg_constraint.contype = 'p') AS con ON pg_catalog.pg_attribute.attnum = \
     con.attnum AND pg_catalog.pg_attribute.attrelid = con.conrelid) AS attr GROUP BY attr.conrelid, attr.conname ORDER BY \
     attr.conrelid, attr.conname",
    "SELECT pg_catalog.pg_type.typname AS name, pg_catalog.pg_type_is_visible(pg_catalog.pg_type.oid) AS visible, \
     pg_catalog.pg_namespace.nspname AS schema, lbl_agg.labels AS labels FROM pg_catalog.pg_type JOIN \
     pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_type.typnamespace LEFT OUTER JOIN (SELECT \
     pg_catalog.pg_enum.enumtypid AS enumtypid, array_agg(CAST(pg_catalog.pg_enum.enumlabel AS TEXT) ORDER BY \
     pg_catalog.pg_enum.enumsortorder) AS labels FROM pg_catalog.pg_enum GROUP BY pg_catalog.pg_enum.enumtypid) AS lbl_agg \
     ON pg_catalog.pg_type.oid = lbl_agg.enumtypid WHERE pg_catalog.pg_type.typtype = 'e' ORDER BY 3, 1",
    "SELECT t.oid, typarray FROM pg_type t JOIN pg_namespace ns ON typnamespace = ns.oid WHERE typname = 'hstore'",
    // Django
    "SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, \
     obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = \
     c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND \
     pg_catalog.pg_table_is_visible(c.oid)",
    "SELECT a.attname AS column_name, NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable, \
     pg_get_expr(ad.adbin, ad.adrelid) AS column_default, CASE WHEN collname = 'default' THEN NULL ELSE collname END AS \
     collation, a.attidentity != '' AS is_autofield, col_description(a.attrelid, a.attnum) AS column_comment FROM \
     pg_attribute a LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT JOIN pg_collation co ON \
     a.attcollation = co.oid JOIN pg_type t ON a.atttypid = t.oid JOIN pg_class c ON a.attrelid = c.oid JOIN pg_namespace n \
     ON c.relnamespace = n.oid WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND c.relname = 'users' AND n.nspname NOT IN \
     ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)",
    "SELECT c.conname, array(SELECT attname FROM unnest(c.conkey) WITH ORDINALITY cols(colid, arridx) JOIN pg_attribute AS ca \
     ON cols.colid = ca.attnum WHERE ca.attrelid = c.conrelid ORDER BY cols.arridx), c.contype, (SELECT fkc.relname || '.' || \
     fka.attname FROM pg_attribute AS fka JOIN pg_class AS fkc ON fka.attrelid = fkc.oid WHERE fka.attrelid = c.confrelid AND \
     fka.attnum = c.confkey[1]), cl.reloptions FROM pg_constraint AS c JOIN pg_class AS cl ON c.conrelid = cl.oid WHERE \
     cl.relname = 'users' AND pg_catalog.pg_table_is_visible(cl.oid)",
    "SELECT indexname, array_agg(attname ORDER BY arridx), indisunique, indisprimary, array_agg(ordering ORDER BY arridx), \
     amname, exprdef, s2.attoptions FROM (SELECT c2.relname as indexname, idx.*, attr.attname, am.amname, CASE WHEN \
     idx.indexprs IS NOT NULL THEN pg_get_indexdef(idx.indexrelid) END AS exprdef, CASE am.amname WHEN 'btree' THEN CASE \
     (option & 1) WHEN 1 THEN 'DESC' ELSE 'ASC' END END as ordering, c2.reloptions as attoptions FROM (SELECT *, \
     unnest(i.indkey) as key, unnest(i.indoption) as option, generate_subscripts(i.indkey, 1) AS arridx FROM pg_index i) idx \
     LEFT JOIN pg_class c ON idx.indrelid = c.oid LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid LEFT JOIN pg_am am ON \
     c2.relam = am.oid LEFT JOIN pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key WHERE c.relname = \
     'users' AND pg_catalog.pg_table_is_visible(c.oid)) s2 GROUP BY indexname, indisunique, indisprimary, amname, exprdef, \
     attoptions",
    // ActiveRecord
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, \
     a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity, attgenerated as \
     attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN \
     pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> \
     t.typcollation WHERE a.attrelid = '\"users\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    "SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t \
     LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4', 'int8', 'oid', 'float4', 'float8')",
    "SELECT a.attname FROM (SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx FROM pg_index WHERE indrelid = \
     '\"users\"'::regclass AND indisprimary) i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[i.idx] \
     ORDER BY i.idx",
    "SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), \
     pg_catalog.obj_description(i.oid, 'pg_class') AS comment, d.indisvalid FROM pg_class t INNER JOIN pg_index d ON t.oid = \
     d.indrelid INNER JOIN pg_class i ON d.indexrelid = i.oid LEFT JOIN pg_namespace n ON n.oid = t.relnamespace WHERE \
     i.relkind IN ('i', 'I') AND d.indisprimary = 'f' AND t.relname = 'orders' AND n.nspname = ANY (current_schemas(false)) \
     ORDER BY i.relname",
    "SELECT type.typname AS name, type.OID AS oid, n.nspname AS schema, array_agg(enum.enumlabel ORDER BY \
     enum.enumsortorder) AS value FROM pg_enum AS enum JOIN pg_type AS type ON (type.oid = enum.enumtypid) JOIN \
     pg_namespace n ON type.typnamespace = n.oid WHERE n.nspname = ANY (current_schemas(false)) GROUP BY type.OID, \
     n.nspname, type.typname",
    "SHOW max_identifier_length",
    "SHOW search_path",
    // Prisma, Npgsql, JDBC
    "SELECT EXISTS(SELECT 1 FROM pg_namespace WHERE nspname = 'public'), version(), \
     current_setting('server_version_num')::integer as numeric_version",
    "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, \
     typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid FROM (SELECT typ.oid, \
     typnamespace, typname, typrelid, typnotnull, relkind, typelem, CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE \
     typ.typtype END AS typtype FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc \
     AS proc ON proc.oid = typ.typreceive) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = typ.typelem) AS t JOIN \
     pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') ORDER BY t.oid",
    "SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, \
     (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME FROM pg_catalog.pg_class ct JOIN \
     pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN \
     pg_catalog.pg_index i ON (a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true \
     AND ct.relname = 'users' AND i.indisprimary",
    "SELECT result.TABLE_CAT, result.TABLE_NAME, result.COLUMN_NAME FROM (SELECT NULL AS TABLE_CAT, ct.relname AS \
     TABLE_NAME, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, \
     information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN \
     pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) WHERE \
     i.indisprimary) result WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY 2, 3",
    // information_schema
    "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 2",
    "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = 'users' \
     ORDER BY ordinal_position",
    "SELECT tc.constraint_name, tc.constraint_type, kcu.column_name FROM information_schema.table_constraints tc JOIN \
     information_schema.key_column_usage kcu USING (constraint_schema, constraint_name) WHERE tc.table_schema = 'public' \
     ORDER BY 1, 3",
    "SELECT * FROM information_schema.views WHERE table_schema = 'public' ORDER BY table_name",
    "SELECT routine_name, data_type FROM information_schema.routines WHERE specific_schema = 'public' ORDER BY 1",
    "SELECT schema_name FROM information_schema.schemata ORDER BY 1",
    "SELECT * FROM information_schema.referential_constraints",
    "SELECT grantee, privilege_type FROM information_schema.role_table_grants WHERE table_name = 'users' ORDER BY 2",
    "SELECT count(*) > 0 FROM information_schema.role_column_grants",
    "SELECT * FROM information_schema.sequences",
    "SELECT * FROM information_schema.triggers",
    "SELECT sequence_name FROM information_schema.sequences JOIN information_schema.tables ON true",
    // Monitoring and administration
    "SELECT name, setting FROM pg_settings WHERE name IN ('server_version_num', 'block_size') ORDER BY 1",
    "SELECT datname, encoding, datcollate FROM pg_database ORDER BY 1",
    "SELECT rolname, rolsuper FROM pg_roles ORDER BY 1",
    "SELECT * FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename",
    "SELECT * FROM pg_views WHERE schemaname = 'public' ORDER BY viewname",
    "SELECT * FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname",
    "SELECT schemaname, relname FROM pg_stat_user_tables ORDER BY 2",
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active'",
    "SELECT extname, extversion FROM pg_extension ORDER BY 1",
    "SELECT count(*) > 0 FROM pg_locks",
    "SELECT * FROM pg_prepared_xacts",
    "SELECT 'users'::regclass, to_regclass('public.users'), to_regclass('nothing'), 'mood'::regtype",
    "SELECT 'users'::regclass::oid",
    "SELECT pg_get_viewdef('adults'::regclass, true), pg_get_functiondef('twice(bigint)'::regprocedure)",
    "SELECT has_table_privilege('users', 'SELECT'), has_schema_privilege('public', 'CREATE')",
    "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()",
    "SELECT pg_catalog.set_config('search_path', 'public', false)",
    "SELECT pg_catalog.pg_relation_is_publishable('users'::regclass), pg_catalog.amvalidate(1981)",
    "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_database()",
    "SELECT c.relname FROM pg_class c WHERE c.oid = 'orders'::regclass::oid AND c.relkind = 'r'::\"char\"",
    "SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum = ANY (SELECT unnest(conkey) FROM \
     pg_constraint WHERE conrelid = 'users'::regclass AND contype = 'p')",
    "WITH t AS (SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace) SELECT relname FROM t ORDER BY 1",
];

#[test]
fn catalogs_answer_as_on_the_catalog_shard() {
    let rig = Rig::start();
    let shard = Both { plain: rig.node(0), ..rig.both() };
    let mut both = shard;
    let mut tally = Tally::default();
    for sql in QUERIES {
        for how in [How::Simple, How::Unnamed, How::Named] {
            match both.check(how, sql, &[], how == How::Named, Order::Any) {
                Verdict::Same => tally.add(sql, Verdict::Same),
                // Here a refusal is a mistake too.
                other => tally.add(sql, Verdict::Mismatch(format!("{how:?}: {other:?}"))),
            }
        }
    }
    let run = |program: &str, port: u16, arguments: &[&str]| {
        let login = ["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER].map(str::to_owned);
        let output =
            Command::new(program).args(login).args(arguments).output().expect("psql and pg_dump are installed");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let port = port.to_string();
        let alike =
            |line: &&str| !line.contains(&port) && !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        text.lines().filter(alike).map(|it| format!("{it}\n")).collect::<String>()
    };
    for command in PSQL {
        let arguments = ["-X", "-d", DATABASE, "-c", command];
        let (ours, theirs) = (run("psql", rig.port, &arguments), run("psql", rig.node_port(0), &arguments));
        tally.add(
            command,
            if ours == theirs { Verdict::Same } else { Verdict::Mismatch(format!("{ours}\nplain:\n{theirs}")) },
        );
    }
    // It locks what it dumps, on every shard at once, which needs no shard to be set up for anything.
    for arguments in [["--schema-only", "-t", "users", DATABASE], ["--schema-only", "-t", "orders", DATABASE]] {
        let (ours, theirs) = (run("pg_dump", rig.port, &arguments), run("pg_dump", rig.node_port(0), &arguments));
        let alike = ours == theirs && ours.contains("CREATE TABLE");
        tally
            .add("pg_dump", if alike { Verdict::Same } else { Verdict::Mismatch(format!("{ours}\nplain:\n{theirs}")) });
    }
    tally.print("catalogs");
    assert_eq!(tally.mismatches, Vec::<String>::new());
}
