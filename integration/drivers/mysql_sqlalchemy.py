"""SQLAlchemy's Core and ORM over PyMySQL and mysql-connector-python: engines with pools, models, relations, reflection."""

import datetime
import decimal
import sys

import sqlalchemy as sa
from sqlalchemy import orm

from report import House, arguments, run, same

PORT, BASE = arguments()
HOUSE = House()
ENGINES = {name: sa.create_engine(f"mysql+{name}://app:so secret@127.0.0.1:{PORT}/shop?charset=utf8mb4", pool_size=3, pool_pre_ping=True)
           for name in ("pymysql", "mysqlconnector")}


class Base(orm.DeclarativeBase):
    pass


class Writer(Base):
    __tablename__ = "writers"
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    born: orm.Mapped[datetime.date | None]
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="writer", cascade="all, delete-orphan", order_by="Book.id")


class Book(Base):
    __tablename__ = "books"
    writer_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("writers.id"), primary_key=True)
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    title: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    price: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(8, 2), default=0)
    writer: orm.Mapped[Writer] = orm.relationship(back_populates="books")


class Note(Base):
    __tablename__ = "notes"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    body: orm.Mapped[str] = orm.mapped_column(sa.String(200), unique=True)


def each(test):
    """A test for each engine, on keys of its own."""
    def both():
        for place, (name, engine) in enumerate(ENGINES.items()):
            test(name, engine, 1000 * place)
    return both


def written(engine, begin):
    """A writer with two books for each of two keys of one shard and one of another."""
    keys = HOUSE.apart(BASE + begin)
    with orm.Session(engine) as session:
        for key in keys:
            books = [Book(id=1, title="first", price=decimal.Decimal("9.50")), Book(id=2, title="sécond")]
            session.add(Writer(id=key, name=f"writer {key}", born=datetime.date(1900, 2, 28), books=books))
            session.commit()
    return keys


@each
def test_models_and_their_relations(_, engine, begin):
    keys = written(engine, begin)
    with orm.Session(engine) as session:
        for key in keys:
            writer = session.get(Writer, key)
            same((writer.name, writer.born), (f"writer {key}", datetime.date(1900, 2, 28)))
            same([(book.title, book.price) for book in writer.books], [("first", decimal.Decimal("9.50")), ("sécond", decimal.Decimal("0.00"))])
            writer.name = "renamed"
            writer.books.pop()
            session.commit()
        eager = sa.select(Writer).options(orm.joinedload(Writer.books)).where(Writer.id == keys[2])
        found = session.execute(eager).unique().scalar_one()
        same((found.name, len(found.books)), ("renamed", 1))
        later = sa.select(Writer).options(orm.selectinload(Writer.books)).where(Writer.id == keys[0])
        same([book.title for book in session.scalars(later).one().books], ["first"])
        session.delete(found)
        session.commit()
        same(session.get(Writer, keys[2]), None)


@each
def test_transactions(_, engine, begin):
    a, b, _ = written(engine, begin + 50)
    with orm.Session(engine) as session:
        session.get(Writer, a).name = "lost"
        session.flush()
        session.rollback()
        session.get(Writer, a).name = "kept"
        try:
            with session.begin_nested():
                session.get(Writer, b).name = "lost"
                session.flush()
                session.add(Writer(id=b, name="twice"))
                session.flush()
        except (sa.exc.IntegrityError, orm.exc.FlushError):
            pass
        session.commit()
        same([session.get(Writer, key).name for key in (a, b)], ["kept", f"writer {b}"])


@each
def test_core(_, engine, begin):
    a, b, c = written(engine, begin + 100)
    writers = Writer.__table__
    with engine.begin() as connection:
        done = connection.execute(sa.update(writers).where(writers.c.id == a).values(name="core"))
        same(done.rowcount, 1)
        here = sa.select(writers.c.name).where(writers.c.id == sa.bindparam("key"))
        same([connection.execute(here, {"key": key}).scalar_one() for key in (a, c)], ["core", f"writer {c}"])
        same(connection.execute(sa.select(sa.func.count()).where(Book.writer_id == b)).scalar_one(), 2)
        rows = connection.execute(sa.select(writers.c.id).where(writers.c.id.in_([a, b, c]))).scalars()
        same(sorted(rows), sorted([a, b, c]))
        grouped = sa.select(Book.title, sa.func.sum(Book.price)).where(Book.writer_id == a).group_by(Book.title).order_by(Book.title)
        same(connection.execute(grouped).all(), [("first", decimal.Decimal("9.50")), ("sécond", decimal.Decimal("0.00"))])
        try:
            connection.execute(sa.insert(writers).values(id=a, name="twice"))
            raise AssertionError("it succeeds")
        except sa.exc.IntegrityError as error:
            same(error.orig.args[0], 1062)


@each
def test_many_rows_at_once(_, engine, begin):
    here = [key for key in range(BASE + begin + 150, BASE + begin + 250) if key in HOUSE.first][:20]
    with engine.begin() as connection:
        connection.execute(sa.insert(Writer.__table__), [{"id": key, "name": f"many {key}"} for key in here])
        rows = connection.execute(sa.select(Writer.name).where(Writer.id.in_(here))).scalars()
        same(sorted(rows), [f"many {key}" for key in here])


@each
def test_numbers_that_the_server_gives(name, engine, _):
    with orm.Session(engine) as session:
        notes = [Note(body=f"{name} {number}") for number in range(3)]
        session.add_all(notes)
        session.commit()
        numbers = [note.id for note in notes]
        same(len(set(numbers)), 3)
        same([session.get(Note, number).body for number in numbers], [f"{name} {number}" for number in range(3)])


@each
def test_reflection(_, engine, __):
    inspector = sa.inspect(engine)
    assert {"customers", "orders", "writers"} <= set(inspector.get_table_names())
    same([column["name"] for column in inspector.get_columns("writers")], ["id", "name", "born"])
    same(inspector.get_pk_constraint("books")["constrained_columns"], ["writer_id", "id"])
    same(inspector.get_foreign_keys("books")[0]["referred_table"], "writers")
    assert inspector.has_table("notes") and not inspector.has_table("no_such_table")
    reflected = sa.Table("orders", sa.MetaData(), autoload_with=engine)
    assert isinstance(reflected.c.total.type, sa.Numeric)


@each
def test_reads_and_writes_of_several_shards(_, engine, begin):
    a, b, c = keys = written(engine, begin + 300)
    with orm.Session(engine) as session:
        mine = Writer.id.in_(keys)
        eager = sa.select(Writer).options(orm.joinedload(Writer.books)).where(mine).order_by(Writer.id)
        same([(it.id, len(it.books)) for it in session.scalars(eager).unique()], [(key, 2) for key in sorted(keys)])
        later = sa.select(Writer).options(orm.selectinload(Writer.books)).where(mine).order_by(Writer.id.desc()).limit(2)
        same([(it.id, len(it.books)) for it in session.scalars(later)], [(key, 2) for key in sorted(keys)[:0:-1]])
        counted = sa.select(sa.func.count(), sa.func.sum(Book.price), sa.func.min(Writer.id)).join(Writer.books).where(mine)
        same(tuple(session.execute(counted).one()), (6, decimal.Decimal("28.50"), min(keys)))
        grouped = sa.select(Book.title, sa.func.count()).where(Book.writer_id.in_(keys)).group_by(Book.title).order_by(Book.title)
        same([tuple(row) for row in session.execute(grouped)], [("first", 3), ("sécond", 3)])
        same(session.execute(sa.update(Writer).where(mine).values(name="all")).rowcount, 3)
        session.rollback()
        same({session.get(Writer, key).name for key in keys}, {f"writer {key}" for key in keys})
        # One transaction over both shards, with one within it that is undone.
        for key in keys:
            session.get(Writer, key).name = "both"
        session.flush()
        try:
            with session.begin_nested():
                session.execute(sa.insert(Writer.__table__).values([{"id": key, "name": "twice"} for key in (a + 5000, c)]))
        except sa.exc.IntegrityError as error:
            same(error.orig.args[0], 1062)
        session.commit()
        same([session.get(Writer, key).name for key in keys], ["both"] * 3)
        same(session.get(Writer, a + 5000), None)
        same(session.execute(sa.delete(Book).where(Book.writer_id.in_(keys))).rowcount, 6)
        session.commit()
        same(session.scalar(sa.select(sa.func.count()).select_from(Book).where(Book.writer_id.in_((a, b, c)))), 0)


@each
def test_tables_are_made_changed_and_dropped(_, engine, __):
    made = sa.MetaData()
    authors = sa.Table("sa_authors", made, sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.String(80), nullable=False, index=True))
    posts = sa.Table("sa_posts", made, sa.Column("author_id", sa.BigInteger, sa.ForeignKey("sa_authors.id"), primary_key=True),
                     sa.Column("no", sa.Integer, primary_key=True, autoincrement=False), sa.Column("text", sa.Text))
    settings = sa.Table("sa_settings", made, sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.JSON))
    made.drop_all(engine)
    made.create_all(engine)
    # They are there: nothing to do.
    made.create_all(engine)
    inspector = sa.inspect(engine)
    assert {"sa_authors", "sa_posts", "sa_settings"} <= set(inspector.get_table_names())
    same([index["column_names"] for index in inspector.get_indexes("sa_authors")], [["name"]])
    with engine.begin() as connection:
        # Numbers that the server gives, for rows of all shards.
        keys = [connection.execute(sa.insert(authors).values(name=f"author {turn}")).inserted_primary_key[0] for turn in range(8)]
        same(len(set(keys)), 8)
        connection.execute(sa.insert(posts), [{"author_id": key, "no": no, "text": f"{key} {no}"} for key in keys for no in (1, 2)])
        connection.execute(sa.insert(settings).values(value={"a": [1, None]}))
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE sa_posts ADD COLUMN likes int NOT NULL DEFAULT 0, ADD INDEX by_likes (likes)"))
    sa.Index("by_name_and_id", authors.c.name, authors.c.id).create(engine)
    reflected = sa.Table("sa_posts", sa.MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        same(connection.execute(sa.update(reflected).where(reflected.c.no == 2).values(likes=reflected.c.likes + 3)).rowcount, 8)
        same(tuple(connection.execute(sa.select(sa.func.count(), sa.func.sum(reflected.c.likes))).one()), (16, 24))
        joined = sa.select(authors.c.name, posts.c.text).join(posts).where(posts.c.no == 1).order_by(authors.c.name).limit(2)
        same([row[0] for row in connection.execute(joined)], ["author 0", "author 1"])
        same(connection.execute(sa.select(settings.c.value)).scalar_one(), {"a": [1, None]})
    made.drop_all(engine)
    assert not {"sa_authors", "sa_posts", "sa_settings"} & set(sa.inspect(engine).get_table_names())


run("sqlalchemy", sys.modules[__name__])
